/* Runs a program that the kernel refuses bpf(), with the errno wanted: what containers' seccomp profiles and kernels without a part of eBPF answer. */
#include "lab.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int command_refuse(int argc, char **argv) {
  static const char *help = "racelab refuse --errno N [--command N] PROGRAM ...\n"
                            "  every bpf(), or those of one command alone (enum bpf_cmd: 5 loads programs)";
  int refusal = 0, command = -1, first = 1;
  for (; first < argc && argv[first][0] == '-'; first++) {
    if (!strcmp(argv[first], "--errno")) refusal = atoi(option_value(argc, argv, &first));
    else if (!strcmp(argv[first], "--command")) command = atoi(option_value(argc, argv, &first));
    else usage(help);
  }
  if (refusal <= 0 || first >= argc) usage(help);
  /* The lower half of the first argument. */
  unsigned half = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0]) + half),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)command, 0, command < 0 ? 0 : 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)refusal),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0)) die("set a filter");
  execvp(argv[first], &argv[first]);
  die("run %s", argv[first]);
}
