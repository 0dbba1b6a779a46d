#include "include/CLinux.h"
typedef int CLinux_unused;
