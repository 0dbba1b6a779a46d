#include "include/CYAML.h"
typedef int CYAML_unused;
