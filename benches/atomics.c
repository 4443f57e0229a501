// Stops a process at each atomic instruction that changes memory, and writes down which memory that is.
//
//   atomics PROCESS ADDRESSES       x86-64 only
//
// ADDRESSES is a file with the addresses of all these instructions in memory, in hexadecimal. Prints "ready" when they have
// breakpoints. After SIGTERM it prints a line for each instruction and cache line: the thread, the address of the
// instruction, the address in memory without its last six bits, and how often. The process cannot go on afterwards.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEN (1 << 20) // room for instructions; a power of two
#define COUNTS (1 << 18)
#define THREADS 256

struct decoded {
  uint64_t at;
  uint8_t first, atomic, segment, mod, rm, base, index, scale, rip, no_base, no_index, length;
  int32_t displacement;
};

static void die(const char *what) {
  perror(what);
  exit(1);
}

static struct decoded *seen;
static struct count {
  uint64_t at, line;
  long times;
  pid_t thread;
} *counts;

// Whether an instruction is atomic, and how it addresses memory (Intel SDM, volume 2, chapter 2).
static void decode(pid_t thread, struct decoded *d) {
  uint8_t code[16] = {0}, *p = code;
  struct iovec here = {code, sizeof code}, there = {(void *)d->at, sizeof code};
  if (process_vm_readv(thread, &here, 1, &there, 1, 0) < 8) return;
  code[0] = d->first;
  int lock = 0, rex = 0, short_operand = 0;
  for (;; p++) {
    if (*p == 0xf0) lock = 1;
    else if (*p == 0x64) d->segment = 1;
    else if (*p == 0x66) short_operand = 1;
    else if (*p != 0xf2 && *p != 0xf3 && *p != 0x65 && *p != 0x2e && *p != 0x3e) break;
  }
  if ((*p & 0xf0) == 0x40) rex = *p++;
  int immediate = 0, opcode = *p++;
  if (opcode == 0x0f) {
    opcode = 0x100 | *p++;
    if (opcode == 0x1ba) immediate = 1;
  } else if (opcode == 0x80 || opcode == 0x83) immediate = 1;
  else if (opcode == 0x81) immediate = short_operand ? 2 : 4;
  int exchange = opcode == 0x86 || opcode == 0x87;
  if (!lock && !exchange) return;
  uint8_t modrm = *p++;
  d->mod = modrm >> 6, d->rm = (modrm & 7) | (rex & 1) << 3;
  if (d->mod == 3) return;
  d->no_index = 1;
  if ((modrm & 7) == 4) {
    uint8_t sib = *p++;
    d->scale = sib >> 6, d->index = (sib >> 3 & 7) | (rex & 2) << 2, d->base = (sib & 7) | (rex & 1) << 3;
    d->no_index = d->index == 4;
    d->no_base = (sib & 7) == 5 && !d->mod;
  } else if ((modrm & 7) == 5 && !d->mod) d->rip = 1;
  else d->base = d->rm;
  if (d->mod == 1) d->displacement = (int8_t)*p++;
  else if (d->mod == 2 || d->rip || d->no_base) memcpy(&d->displacement, p, 4), p += 4;
  d->length = p - code + immediate;
  d->atomic = 1;
}

static uint64_t value(struct user_regs_struct *r, int n) {
  uint64_t all[] = {r->rax, r->rcx, r->rdx, r->rbx, r->rsp, r->rbp, r->rsi, r->rdi,
                    r->r8,  r->r9,  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15};
  return all[n];
}

static void note(pid_t thread, struct decoded *d, struct user_regs_struct *r) {
  uint64_t to = (int64_t)d->displacement;
  if (d->rip) to += d->at + d->length;
  else if (!d->no_base) to += value(r, d->base);
  if (!d->no_index) to += value(r, d->index) << d->scale;
  if (d->segment) to += r->fs_base;
  to >>= 6;
  uint64_t place = (d->at * 0x9e3779b97f4a7c15 ^ to * 0xc2b2ae3d27d4eb4f ^ (uint64_t)thread) % COUNTS;
  while (counts[place].times && (counts[place].at != d->at || counts[place].line != to || counts[place].thread != thread))
    place = (place + 1) % COUNTS;
  counts[place].at = d->at, counts[place].line = to, counts[place].thread = thread, counts[place].times++;
}

static struct decoded *find(uint64_t at) {
  uint64_t place = (at * 0x9e3779b97f4a7c15 >> 20) % SEEN;
  while (seen[place].at && seen[place].at != at) place = (place + 1) % SEEN;
  return &seen[place];
}

static void set(int memory, uint64_t at, uint8_t byte) {
  if (pwrite(memory, &byte, 1, at) != 1) die("the memory of the process");
}

static volatile sig_atomic_t ending;

static void end(int signal) { ending = signal; }

int main(int argc, char **argv) {
  if (argc != 3) return fputs("usage: atomics PROCESS ADDRESSES\n", stderr), 2;
  seen = calloc(SEEN, sizeof *seen), counts = calloc(COUNTS, sizeof *counts);
  char path[64], line[64];
  snprintf(path, sizeof path, "/proc/%s/mem", argv[1]);
  int memory = open(path, O_RDWR);
  snprintf(path, sizeof path, "/proc/%s/task", argv[1]);
  DIR *tasks = opendir(path);
  FILE *addresses = fopen(argv[2], "r");
  if (memory < 0 || !tasks || !addresses) die("the process or the addresses");
  pid_t threads[THREADS];
  int many = 0;
  for (struct dirent *entry; (entry = readdir(tasks));) {
    pid_t thread = atoi(entry->d_name);
    if (!thread || many == THREADS) continue;
    if (ptrace(PTRACE_SEIZE, thread, 0, PTRACE_O_TRACECLONE) || ptrace(PTRACE_INTERRUPT, thread, 0, 0)) die("ptrace");
    if (waitpid(thread, NULL, __WALL) != thread) die("waitpid");
    threads[many++] = thread;
  }
  while (fgets(line, sizeof line, addresses)) {
    uint64_t at = strtoull(line, NULL, 16);
    struct decoded *d = find(at);
    d->at = at;
    if (pread(memory, &d->first, 1, at) != 1) die("an address");
  }
  for (long i = 0; i < SEEN; i++)
    if (seen[i].at) decode(threads[0], &seen[i]);
  for (long i = 0; i < SEEN; i++)
    if (seen[i].atomic) set(memory, seen[i].at, 0xcc);
  struct sigaction action = {.sa_handler = end};
  sigaction(SIGTERM, &action, NULL);
  for (int i = 0; i < many; i++) ptrace(PTRACE_CONT, threads[i], 0, 0);
  puts("ready"), fflush(stdout);
  while (!ending) {
    int status;
    pid_t thread = waitpid(-1, &status, __WALL);
    if (thread < 0 && errno == EINTR) continue;
    if (thread < 0) break;
    if (!WIFSTOPPED(status)) continue;
    int sent = WSTOPSIG(status), event = status >> 16;
    struct user_regs_struct r;
    if (!event && sent == SIGTRAP && !ptrace(PTRACE_GETREGS, thread, 0, &r)) {
      struct decoded *d = find(--r.rip);
      if (!d->atomic) continue;
      note(thread, d, &r);
      // The instruction itself, without its breakpoint for a moment.
      set(memory, d->at, d->first);
      ptrace(PTRACE_SETREGS, thread, 0, &r);
      ptrace(PTRACE_SINGLESTEP, thread, 0, 0);
      waitpid(thread, &status, __WALL);
      set(memory, d->at, 0xcc);
      sent = SIGTRAP;
    }
    ptrace(PTRACE_CONT, thread, 0, event || sent == SIGTRAP ? 0 : sent);
  }
  for (int i = 0; i < COUNTS; i++)
    if (counts[i].times) printf("%d %lx %lx %ld\n", counts[i].thread, counts[i].at, counts[i].line, counts[i].times);
  return 0;
}
