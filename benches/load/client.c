// An HTTP/1.1 client with one thread: as fast as the server answers, or at a fixed rate that does not wait for it.
//
//   client PORT CONNECTIONS WARM_SECONDS SECONDS RATE REQUESTS turn|random
//
// RATE 0: each connection sends its next request when it has the response to the last one. Otherwise requests become due at
// random times (a Poisson process of RATE per second), whatever the server does; one that finds no free connection waits, and
// its latency counts from the time it became due. REQUESTS is a file of whole requests, separated by zero bytes.
//
// Prints "ready" after the warm-up, then one line: responses, those without status 2xx, lost connections, bytes of the
// bodies per response, p50, p99 and p99.9 in microseconds, requests that waited at the end.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD 4096
#define SLOWEST 4000000 // microseconds; what takes longer counts as this

struct connection {
  int fd;
  double since;       // when its request became due
  int head;           // bytes of the head; -1 once it is complete
  long left;          // bytes of the body to come; -1 if chunks
  char text[HEAD + 1];
  char tail[5];       // the last bytes of a chunked body
};

static uint32_t times[SLOWEST + 1];
static char *requests, **starts;
static size_t count, *lengths;
static int in_turn;
static uint64_t seed = 88172645463325252ull;
static long responses, bad, lost, bytes;
static int counting;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static uint64_t random_number(void) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return seed;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void read_requests(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) die(path);
  fseek(file, 0, SEEK_END);
  size_t size = ftell(file), at = 0;
  rewind(file);
  requests = malloc(size + 1);
  if (fread(requests, 1, size, file) != size) die(path);
  requests[size] = 0;
  fclose(file);
  for (size_t i = 0; i <= size; i++) count += !requests[i];
  starts = calloc(count, sizeof *starts), lengths = calloc(count, sizeof *lengths);
  for (size_t i = 0; i < count; i++) {
    starts[i] = requests + at, lengths[i] = strlen(requests + at);
    at += lengths[i] + 1;
  }
}

static void request(struct connection *c, double since) {
  static size_t turn;
  size_t i = in_turn ? turn++ % count : random_number() % count;
  c->since = since, c->head = 0, c->left = 0;
  memset(c->tail, 0, sizeof c->tail);
  if (send(c->fd, starts[i], lengths[i], MSG_NOSIGNAL) != (ssize_t)lengths[i]) die("send");
}

// Takes what has arrived. Whether the response is complete.
static int take(struct connection *c, const char *data, long size) {
  if (c->head >= 0) {
    long room = HEAD - c->head, part = size < room ? size : room;
    int old = c->head;
    memcpy(c->text + old, data, part);
    c->head += part, c->text[c->head] = 0;
    char *end = strstr(c->text, "\r\n\r\n");
    if (!end) {
      if (c->head == HEAD) fputs("a head is too large\n", stderr), exit(1);
      return 0;
    }
    long used = end + 4 - c->text - old;
    data += used, size -= used;
    end[2] = 0;
    if (counting) bad += c->text[9] != '2';
    char *length = strcasestr(c->text, "\r\ncontent-length:");
    c->left = length ? atol(length + 17) : strcasestr(c->text, "\r\ntransfer-encoding:") ? -1 : 0;
    c->head = -1;
  }
  if (counting) bytes += size;
  if (c->left >= 0) return (c->left -= size) <= 0;
  // One request is under way, so nothing follows the last chunk.
  for (long i = size > 5 ? size - 5 : 0; i < size; i++) memmove(c->tail, c->tail + 1, 4), c->tail[4] = data[i];
  return !memcmp(c->tail, "0\r\n\r\n", 5);
}

static long percentile(double part) {
  long wanted = (long)ceil(responses * part), seen = 0;
  for (long i = 0; i <= SLOWEST; i++)
    if ((seen += times[i]) >= wanted) return i;
  return SLOWEST;
}

int main(int argc, char **argv) {
  if (argc != 8) return fputs("usage: client PORT CONNECTIONS WARM_SECONDS SECONDS RATE REQUESTS turn|random\n", stderr), 2;
  int connections = atoi(argv[2]);
  double warm = atof(argv[3]), seconds = atof(argv[4]), rate = atof(argv[5]);
  read_requests(argv[6]);
  in_turn = !strcmp(argv[7], "turn");
  // A timer may otherwise fire 50 microseconds late.
  prctl(PR_SET_TIMERSLACK, 1);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  struct connection *all = calloc(connections, sizeof *all), **free_ones = calloc(connections, sizeof *free_ones);
  int frees = 0, poll = epoll_create1(0);
  for (int i = 0; i < connections; i++) {
    struct connection *c = all + i;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    int on = 1;
    // A reset at the end leaves no port that waits.
    struct linger linger = {1, 0};
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll, EPOLL_CTL_ADD, c->fd, &event);
    free_ones[frees++] = c;
  }
  // Requests that are due and have no connection yet.
  size_t room = 1 << 20, first = 0, last = 0;
  double *due = malloc(room * sizeof *due);
  static char data[1 << 18];
  static struct epoll_event events[1024];
  double begin = now() + warm, end = begin + seconds, next = now();
  if (!rate)
    while (frees) request(free_ones[--frees], now());
  for (;;) {
    double time = now();
    if (!counting && time >= begin) {
      counting = 1;
      puts("ready"), fflush(stdout);
    }
    if (time >= end) break;
    for (; rate && next <= time; next += -log((random_number() >> 11) * 0x1p-53 + 0x1p-54) / rate)
      if (last - first < room) due[last++ % room] = next;
    while (frees && first < last) request(free_ones[--frees], due[first++ % room]);
    double until = rate && next < end ? next : end;
    if (!counting && begin < until) until = begin;
    double wait = until - now();
    struct timespec timeout = {0};
    if (wait > 0) timeout.tv_sec = (long)wait, timeout.tv_nsec = (wait - (long)wait) * 1e9;
    int ready = epoll_pwait2(poll, events, 1024, &timeout, NULL);
    if (ready < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < ready; i++) {
      struct connection *c = events[i].data.ptr;
      ssize_t size = recv(c->fd, data, sizeof data, MSG_DONTWAIT);
      if (size < 0 && errno == EAGAIN) continue;
      if (size <= 0) {
        lost++;
        close(c->fd);
        continue;
      }
      if (!take(c, data, size)) continue;
      double done = now();
      if (counting) {
        long micros = (done - c->since) * 1e6;
        times[micros < SLOWEST ? micros : SLOWEST]++;
        responses++;
      }
      if (rate) free_ones[frees++] = c;
      else request(c, done);
    }
  }
  printf("%ld %ld %ld %ld %ld %ld %ld %zu\n", responses, bad, lost, responses ? bytes / responses : 0, percentile(.5),
         percentile(.99), percentile(.999), last - first);
  return 0;
}
