#include "include/CLinuxCapabilities.h"

#include <cap-ng.h>
#include <errno.h>
#include <sys/prctl.h>

static int load(void)
{
	// libcap-ng keeps its picture per thread and reads it once; forget the old one.
	capng_setpid(0);
	capng_clear(CAPNG_SELECT_BOTH);
	return capng_get_caps_process() < 0 ? -EPERM : 0;
}

int clinux_capabilities_effective(uint64_t *effective)
{
	int error = load();

	*effective = 0;
	if (error)
		return error;
	for (unsigned int capability = 0; capability <= CAP_LAST_CAP && capability < 64; capability++)
		if (capng_have_capability(CAPNG_EFFECTIVE, capability))
			*effective |= UINT64_C(1) << capability;
	return 0;
}

int clinux_capabilities_keep(uint64_t keep)
{
	uint64_t permitted = 0;
	int error = load();

	if (error)
		return error;
	// Asking for more than is permitted fails as a whole.
	for (unsigned int capability = 0; capability <= CAP_LAST_CAP && capability < 64; capability++)
		if (capng_have_capability(CAPNG_PERMITTED, capability))
			permitted |= UINT64_C(1) << capability;
	keep &= permitted;
	capng_clear(CAPNG_SELECT_ALL);
	for (unsigned int capability = 0; capability <= CAP_LAST_CAP && capability < 64; capability++)
		if (keep >> capability & 1 &&
		    capng_updatev(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, capability, -1) < 0)
			return -EINVAL;
	return capng_apply(CAPNG_SELECT_BOTH) < 0 ? -EPERM : 0;
}

int clinux_forbid_new_privileges(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}
