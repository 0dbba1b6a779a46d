#include "include/CConntrack.h"
typedef int CConntrack_unused;
