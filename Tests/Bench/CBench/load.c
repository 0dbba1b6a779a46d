// The load: queries as frames of an AF_PACKET socket, so that thousands of source ports a second cost no socket each, and a server that answers.
#include "CBench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "signals.h"

enum { BATCH = 64, FIRST_PORT = 2000, PORTS = 60000, DNS_HEADER = 12, FRAME = 256 };

// "q" and eight digits, the zone, type A, class IN.
static const char zone[] = "\x05" "bench\x09" "racetrack\x04" "test\0\0\x01\0\x01";
enum { LABEL = 9, QUESTION = 1 + LABEL + sizeof zone - 1, QUERY = DNS_HEADER + QUESTION };

struct frame {
  struct iphdr ip;
  struct udphdr udp;
  uint8_t dns[QUERY];
} __attribute__((packed));

static uint16_t checksum(const void *bytes, size_t length) {
  const uint16_t *words = bytes;
  uint32_t sum = 0;
  for (size_t index = 0; index < length / 2; index++) sum += words[index];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return (uint16_t)~sum;
}

static void write_frame(struct frame *frame, const struct bench_load *load, uint32_t number) {
  uint32_t source = load->source + number / PORTS;
  memset(frame, 0, sizeof *frame);
  frame->ip = (struct iphdr){.version = 4, .ihl = 5, .tot_len = htons(sizeof *frame), .ttl = 64, .protocol = IPPROTO_UDP};
  frame->ip.saddr = htonl(source);
  frame->ip.daddr = htonl(load->server);
  frame->ip.check = checksum(&frame->ip, sizeof frame->ip);
  frame->udp.source = htons((uint16_t)(FIRST_PORT + number % PORTS));
  frame->udp.dest = htons(53);
  frame->udp.len = htons(sizeof frame->udp + QUERY);
  uint16_t id = htons((uint16_t)(number * 40503u));
  memcpy(frame->dns, &id, 2);
  frame->dns[2] = 1;  // RD
  frame->dns[5] = 1;  // QDCOUNT
  frame->dns[DNS_HEADER] = LABEL;
  char label[16];
  snprintf(label, sizeof label, "q%08u", number % 100000000u);
  memcpy(frame->dns + DNS_HEADER + 1, label, LABEL);
  memcpy(frame->dns + DNS_HEADER + 1 + LABEL, zone, sizeof zone - 1);
}

static int64_t monotonic(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint32_t count_answers(int fd) {
  static uint8_t bytes[BATCH][FRAME];
  struct iovec vectors[BATCH];
  struct mmsghdr messages[BATCH];
  uint32_t answers = 0;
  int count;
  do {
    for (int index = 0; index < BATCH; index++) {
      vectors[index] = (struct iovec){bytes[index], FRAME};
      messages[index] = (struct mmsghdr){.msg_hdr = {.msg_iov = &vectors[index], .msg_iovlen = 1}};
    }
    count = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    for (int index = 0; index < count; index++) {
      const struct frame *frame = (const struct frame *)bytes[index];
      if (messages[index].msg_len >= sizeof *frame && frame->ip.protocol == IPPROTO_UDP && frame->udp.source == htons(53) && frame->dns[2] & 0x80)
        answers++;
    }
  } while (count == BATCH);
  return answers;
}

static int send_all(int fd, const struct bench_load *load, const struct sockaddr_ll *to, uint32_t from, uint32_t until) {
  static struct frame frames[BATCH];
  while (from < until) {
    struct iovec vectors[BATCH];
    struct mmsghdr messages[BATCH];
    unsigned count = until - from < BATCH ? until - from : BATCH;
    for (unsigned index = 0; index < count; index++) {
      write_frame(&frames[index], load, load->first + from + index);
      vectors[index] = (struct iovec){&frames[index], sizeof frames[index]};
      messages[index] = (struct mmsghdr){.msg_hdr = {.msg_name = (void *)to, .msg_namelen = sizeof *to, .msg_iov = &vectors[index], .msg_iovlen = 1}};
    }
    int sent = sendmmsg(fd, messages, count, 0);
    if (sent < 0 && errno != EINTR && errno != ENOBUFS) return -errno;
    if (sent > 0) from += (uint32_t)sent;
  }
  return 0;
}

int bench_send(const struct bench_load *load) {
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP), .sll_halen = 6};
  address.sll_ifindex = (int)if_nametoindex(load->device);
  int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 8 << 20;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    perror("load");
    return 1;
  }
  memcpy(address.sll_addr, load->gateway, 6);
  stop_on_sigterm();
  uint32_t sent = 0, answered = 0;
  int64_t start = monotonic();
  while (sent < load->count && !is_stopping) {
    uint64_t due = (uint64_t)(monotonic() - start) * load->rate / 1000000000u;
    uint32_t until = due < load->count ? (uint32_t)due : load->count;
    int result = send_all(fd, load, &address, sent, until);
    if (result < 0) {
      fprintf(stderr, "load: %s\n", strerror(-result));
      return 1;
    }
    sent = until;
    answered += count_answers(fd);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  int64_t took = monotonic() - start;
  for (int rest = 0; rest < 20; rest++) {
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    answered += count_answers(fd);
  }
  struct timespec cpu;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
  printf("sent=%u answered=%u nanoseconds=%lld cpu=%lld\n", sent, answered, (long long)took, (long long)cpu.tv_sec * 1000000000 + cpu.tv_nsec);
  return 0;
}

static size_t answer(uint8_t *bytes, size_t length) {
  static const uint8_t record[] = {0xc0, DNS_HEADER, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1};
  bytes[2] |= 0x80;
  bytes[3] |= 0x80;
  bytes[7] = 1;
  memcpy(bytes + length, record, sizeof record);
  return length + sizeof record;
}

int bench_respond(uint32_t server, int is_mute) {
  static uint8_t bytes[BATCH][FRAME];
  static struct sockaddr_in clients[BATCH];
  struct iovec vectors[BATCH];
  struct mmsghdr messages[BATCH];
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(53), .sin_addr.s_addr = htonl(server)};
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 8 << 20;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    perror("respond");
    return 1;
  }
  stop_on_sigterm();
  puts("ready");
  fflush(stdout);
  uint64_t received = 0;
  while (!is_stopping) {
    for (int index = 0; index < BATCH; index++) {
      vectors[index] = (struct iovec){bytes[index], FRAME - 32};
      messages[index] = (struct mmsghdr){
        .msg_hdr = {.msg_name = &clients[index], .msg_namelen = sizeof clients[index], .msg_iov = &vectors[index], .msg_iovlen = 1}};
    }
    int count = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
    if (count < 0) continue;
    received += (uint64_t)count;
    if (is_mute) continue;
    for (int index = 0; index < count; index++) vectors[index].iov_len = answer(bytes[index], messages[index].msg_len);
    for (int done = 0; done < count;) {
      int sent = sendmmsg(fd, messages + done, (unsigned)(count - done), 0);
      if (sent < 0 && errno != EINTR && errno != ENOBUFS) break;
      if (sent > 0) done += sent;
    }
  }
  printf("received=%llu\n", (unsigned long long)received);
  return 0;
}
