#include "include/CMicroHTTPD.h"
typedef int CMicroHTTPD_unused;
