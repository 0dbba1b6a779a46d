/* What the laboratory's clients and servers share: endpoints, clocks, DNS bytes, options. Shares nothing with the product. */
#pragma once
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define LAB_NAME_MAX 96
#define LAB_PACKET_MAX 4096
#define LAB_TYPE_A 1
#define LAB_TYPE_AAAA 28

/* An address with its port, either family. */
struct endpoint {
  struct sockaddr_storage address;
  socklen_t length;
};

/* "ADDR" with a port given apart; false if ADDR is no numeric address. */
bool endpoint_parse(const char *text, uint16_t port, struct endpoint *out);
/* "ADDR:PORT" or "[ADDR]:PORT". */
bool endpoint_parse_with_port(const char *text, struct endpoint *out);
/* The address alone, in presentation form, into a buffer of INET6_ADDRSTRLEN bytes. */
const char *endpoint_address(const struct sockaddr_storage *address, char *buffer);
uint16_t endpoint_port(const struct sockaddr_storage *address);
void endpoint_set_port(struct sockaddr_storage *address, uint16_t port);
bool endpoint_same_address(const struct sockaddr_storage *a, const struct sockaddr_storage *b);

/* Nanoseconds of CLOCK_REALTIME, as SO_TIMESTAMPNS stamps packets. */
int64_t now_realtime(void);
int64_t now_monotonic(void);
void sleep_until_monotonic(int64_t at);

/* Moves the calling thread into /run/netns/NAME. Dies on failure. */
void enter_netns(const char *name);
/* As many descriptors as the hard limit allows. */
void raise_descriptor_limit(void);
/* One line on standard error and exit 1; `errno` is shown. */
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);
__attribute__((noreturn)) void usage(const char *text);

/* Splits at commas in place; returns the number of parts, at most `capacity`. */
int split(char *text, char **parts, int capacity);
/* The value of an option that takes one: advances *index. */
char *option_value(int argc, char **argv, int *index);

/* A query with RD set and one question. Returns its length. */
size_t dns_query(uint8_t *out, uint16_t id, const char *name, uint16_t type);
/* Adds an OPT record (RFC 6891 6.1.2) to a query; returns the new length. */
size_t dns_add_edns(uint8_t *bytes, size_t length);
/* Header and first question. `name` receives at most LAB_NAME_MAX bytes with its terminator. False if it is no such message. */
bool dns_parse(const uint8_t *bytes, size_t length, uint16_t *id, bool *response, char *name, uint16_t *type, size_t *question_end);
/* Turns the query in `bytes` into a NOERROR answer with one record; returns the new length. */
size_t dns_answer(uint8_t *bytes, size_t question_end, uint16_t type);
/* Fills an answer up to `total` bytes with text records. Returns the new length. */
size_t dns_pad(uint8_t *bytes, size_t length, size_t total);
/* Turns every letter of the question's name to the other case. */
void dns_flip_case(uint8_t *bytes, size_t question_end);
const char *dns_type_name(uint16_t type);
uint16_t dns_type_parse(const char *text);

/* A UDP socket bound to `local`, non-blocking, with kernel receive time stamps. Dies on failure. */
int udp_socket(const struct endpoint *local);
/* One datagram with its kernel time stamp; -1 when nothing waits. */
ssize_t receive_stamped(int fd, uint8_t *buffer, size_t capacity, struct sockaddr_storage *from, int64_t *stamp);

/* One query as its client saw it. */
struct asked {
  int fd;
  uint16_t id;
  uint16_t type;
  char name[LAB_NAME_MAX];
  struct sockaddr_storage client;
  struct endpoint server;
  int64_t sent;     /* realtime; 0: never sent */
  int64_t answered; /* realtime; 0: never, from the address asked */
  bool refused;     /* send() failed with EPERM: dropped by the sender's own kernel */
  int64_t strayed;  /* realtime; 0: no answer came from another address */
  struct sockaddr_storage stray;
};
/* Takes an answer for one of `count` queries of a socket: it counts only from the address and port asked. */
void asked_take(struct asked *queries, int count, const uint8_t *bytes, size_t length, const struct sockaddr_storage *from, int64_t stamp);
/* The truth line of a query on standard output. */
void asked_print(const struct asked *query);

int command_serve(int argc, char **argv);
int command_race(int argc, char **argv);
int command_ask(int argc, char **argv);
int command_relay(int argc, char **argv);
int command_http(int argc, char **argv);
int command_slow(int argc, char **argv);
int command_hold(int argc, char **argv);
int command_meddle(int argc, char **argv);
int command_fill(int argc, char **argv);
int command_refuse(int argc, char **argv);
