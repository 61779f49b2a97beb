"""What a study trains: from study.yaml to the folders of its runs."""
