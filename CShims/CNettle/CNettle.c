#include "include/CNettle.h"
typedef int CNettle_unused;
