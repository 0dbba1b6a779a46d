#include "include/CNettle.h"

#include <nettle/hmac.h>

_Static_assert(CNETTLE_SHA256_SIZE == SHA256_DIGEST_SIZE, "the digest fits the caller's buffer");

void cnettle_hmac_sha256(const uint8_t *key, size_t key_length, const uint8_t *data, size_t length, uint8_t digest[CNETTLE_SHA256_SIZE]) {
  static const uint8_t nothing[1];
  struct hmac_sha256_ctx context;

  hmac_sha256_set_key(&context, key_length, key_length > 0 ? key : nothing);
  hmac_sha256_update(&context, length, length > 0 ? data : nothing);
  hmac_sha256_digest(&context, CNETTLE_SHA256_SIZE, digest);
}
