#include "include/CRaceGenerator.h"
typedef int CRaceGenerator_unused;
