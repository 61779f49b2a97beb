"""What a study found: numbers, pictures and one page of HTML."""
