/* racelab: the laboratory's clients and servers. Each subcommand states what it did on standard output; nothing here judges. */
#include "lab.h"

#include <signal.h>
#include <string.h>

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    int (*run)(int, char **);
  } commands[] = {{"serve", command_serve}, {"race", command_race}, {"ask", command_ask}, {"relay", command_relay}, {"http", command_http}, {"slow", command_slow},
                  {"hold", command_hold}, {"meddle", command_meddle}, {"fill", command_fill}, {"refuse", command_refuse}};
  signal(SIGPIPE, SIG_IGN);
  for (size_t i = 0; argc > 1 && i < sizeof commands / sizeof *commands; i++)
    if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 1, argv + 1);
  usage("racelab serve|race|ask|relay|http|slow|hold|meddle|fill|refuse ...");
}
