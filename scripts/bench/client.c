/* The bench's client where the client must not be the limit: one system call for what a connection sends, one for what
 * it receives, and no runtime around them. Written for length fields of four bytes, the default of the server.
 *
 *   client load PORT CONNECTIONS DEPTH PAYLOAD_BYTES REPLY_BYTES SECONDS
 *       keeps DEPTH requests in flight on each of CONNECTIONS, and answers each reply with the next request at once.
 *       All requests are the same, so each reply must have REPLY_BYTES bytes, the same ones as the first reply of its
 *       connection.
 *   client load-sizes …
 *       the same, but looks at the size alone: the last bit of a number may depend on the batch that it was computed in.
 *   client load-calls PORT CONNECTIONS DEPTH CALL_FILE REPLY_BYTES ANSWER_FLOATS SECONDS
 *       the same for calls on frames: CALL_FILE has a Call that begins with its number as a varint of five bytes; each call
 *       gets the next number. Replies come in any order: each must have REPLY_BYTES bytes, and the number of a call in
 *       flight. The rest must be as in the first reply of its connection, but for ANSWER_FLOATS numbers of 32 bits at its
 *       end, which may differ by a rounding.
 *   client connect PORT AT_ONCE PAYLOAD_BYTES REPLY_BYTES SECONDS
 *       AT_ONCE connections at a time: each connects, sends one request, receives the reply and resets.
 *
 * Prints a line of JSON: the rate per second, the median and the 99th percentile of the latency in milliseconds, and
 * the number of all replies. A first part of the time counts for that number alone. Ends with 1 and prints the reason
 * to stderr when a reply is wrong or a connection breaks.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { header_bytes = 4, max_events = 256, wait_ms = 100, warm_up_ms = 300, silence_ms = 10000 };

static struct sockaddr_in server = {.sin_family = AF_INET};
static int poller;
static size_t frame_bytes; /* of a request */
static size_t reply_frame_bytes;
static int checks_bytes = 1; /* beyond the size of a reply */
static unsigned char *requests; /* as many frames as one write may send */

static void fail(const char *what, ...) {
  va_list values;
  va_start(values, what);
  fputs("bench client: ", stderr);
  vfprintf(stderr, what, values);
  fputc('\n', stderr);
  exit(1);
}

static void fail_with_errno(const char *what) {
  fprintf(stderr, "bench client: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (memory == NULL) fail("out of memory");
  return memory;
}

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ── latencies: a log-linear histogram, 64 steps an octave, so that a quantile is off by at most 1.6 % ── */

enum { steps = 64, octaves = 58 };
static uint64_t buckets[octaves * steps];

static unsigned bucket_of(uint64_t ns) {
  if (ns < steps) return (unsigned)ns;
  unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - 6; /* leaves the first 7 bits: [64, 128) */
  return (shift + 1) * steps + (unsigned)(ns >> shift) - steps;
}

static uint64_t start_of(unsigned bucket) {
  unsigned octave = bucket / steps;
  return octave == 0 ? bucket : (uint64_t)(steps + bucket % steps) << (octave - 1);
}

static double quantile_ms(double q) {
  uint64_t count = 0, seen = 0;
  for (unsigned i = 0; i < octaves * steps; i++) count += buckets[i];
  for (unsigned i = 0; i < octaves * steps; i++) {
    seen += buckets[i];
    if (seen > 0 && (double)seen >= q * (double)count) return (double)start_of(i) / 1e6;
  }
  return 0;
}

/* ── what is measured: from the end of the warm-up to the end ── */

static uint64_t warm_at, end_at, last_progress_at, served, replies_in_all;

static void begin_measuring(double seconds) {
  uint64_t now = now_ns();
  last_progress_at = now;
  warm_at = now + (uint64_t)warm_up_ms * 1000000u;
  end_at = warm_at + (uint64_t)(seconds * 1e9);
}

static void count(uint64_t now, uint64_t sent_at) {
  last_progress_at = now;
  replies_in_all++;
  if (now < warm_at) return;
  served++;
  buckets[bucket_of(now - sent_at)]++;
}

static void print_result(uint64_t now) {
  if (served == 0) fail("no reply came in time");
  double seconds = (double)(now - warm_at) / 1e9;
  printf("{\"rps\":%.1f,\"p50Ms\":%.5f,\"p99Ms\":%.5f,\"replies\":%llu}\n", (double)served / seconds,
         quantile_ms(0.5), quantile_ms(0.99), (unsigned long long)replies_in_all);
}

/* Waits for events; returns how many there are, 0 when the time is over. */
static int next_events(struct epoll_event *events) {
  for (;;) {
    uint64_t now = now_ns();
    if (now >= end_at) return 0;
    if (now - last_progress_at > (uint64_t)silence_ms * 1000000u) fail("the server has said nothing for ten seconds");
    int ready = epoll_wait(poller, events, max_events, wait_ms);
    if (ready > 0) return ready;
    if (ready < 0 && errno != EINTR) fail_with_errno("epoll_wait");
  }
}

/* ── connections ── */

typedef struct {
  int socket;
  unsigned head, in_flight;
  uint64_t *sent_at;       /* a ring: when each request in flight was sent, the oldest at `head` */
  size_t unsent_bytes;     /* of the requests in flight, not sent yet: the last bytes of them */
  uint64_t replies;        /* received whole */
  size_t reply_at;         /* bytes received of the current reply */
  unsigned char *received; /* the current reply */
  unsigned char *expected; /* what each reply must be, once there was one */
  int is_known;            /* whether there was one */
} connection;

static void watch(connection *c, int operation, uint32_t what) {
  struct epoll_event event = {.events = what, .data.ptr = c};
  if (epoll_ctl(poller, operation, c->socket, &event) < 0) fail_with_errno("epoll_ctl");
}

static connection *make_connections(unsigned count_of_them, unsigned depth) {
  connection *all = allocate(count_of_them, sizeof *all);
  for (unsigned i = 0; i < count_of_them; i++) {
    all[i].sent_at = allocate(depth, sizeof *all[i].sent_at);
    all[i].received = allocate(1, reply_frame_bytes);
    all[i].expected = allocate(1, reply_frame_bytes);
  }
  return all;
}

static void open_connection(connection *c, uint32_t what) {
  c->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->socket < 0) fail_with_errno("socket");
  int yes = 1;
  setsockopt(c->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  if (connect(c->socket, (struct sockaddr *)&server, sizeof server) < 0 && errno != EINPROGRESS)
    fail_with_errno("connect");
  watch(c, EPOLL_CTL_ADD, what);
}

/* Fails unless the length field of the current reply announces the size that it should have. */
static void check_length(const connection *c) {
  uint32_t length;
  memcpy(&length, c->received, header_bytes);
  length = ntohl(length);
  if (length == reply_frame_bytes - header_bytes) return;
  if (length > 0)
    fail("reply %" PRIu64 " of a connection has %" PRIu32 " bytes, not %zu", c->replies, length,
         reply_frame_bytes - header_bytes);
  if (c->replies > 0) fail("reply %" PRIu64 " of a connection is an empty frame: the request failed", c->replies);
  fail("the first reply of a connection is an empty frame: there is no place for the connection "
       "(server.maxConnections), or its request failed");
}

/* Fails unless the current reply has the bytes of the first one. */
static void check_bytes(const connection *c) {
  if (memcmp(c->received, c->expected, reply_frame_bytes) == 0) return;
  size_t at = header_bytes;
  while (c->received[at] == c->expected[at]) at++;
  fail("reply %" PRIu64 " of a connection has other bytes than the first one, from byte %zu on: %02x, not %02x",
       c->replies, at - header_bytes, c->received[at], c->expected[at]);
}

/* Checks bytes that were received; returns how many replies they complete. */
static unsigned check_replies(connection *c, const unsigned char *bytes, size_t length) {
  unsigned replies = 0;
  while (length > 0) {
    /* Nearly all are whole and right. */
    if (c->is_known && c->reply_at == 0 && length >= reply_frame_bytes &&
        memcmp(bytes, c->expected, reply_frame_bytes) == 0) {
      bytes += reply_frame_bytes;
      length -= reply_frame_bytes;
      c->replies++;
      replies++;
      continue;
    }
    /* The length field first: a reply of another size may have no more bytes. */
    size_t end = c->reply_at < header_bytes ? header_bytes : reply_frame_bytes;
    size_t part = length < end - c->reply_at ? length : end - c->reply_at;
    memcpy(c->received + c->reply_at, bytes, part);
    bytes += part;
    length -= part;
    c->reply_at += part;
    if (c->reply_at == header_bytes) check_length(c);
    if (c->reply_at < reply_frame_bytes) continue;
    if (!c->is_known) memcpy(c->expected, c->received, reply_frame_bytes);
    else if (checks_bytes) check_bytes(c);
    c->is_known = 1;
    c->reply_at = 0;
    c->replies++;
    replies++;
  }
  return replies;
}

/* ── load ── */

static void send_requests(connection *c) {
  while (c->unsent_bytes > 0) {
    /* All frames are alike and the unsent bytes end where a frame ends, so this much of a frame is sent. */
    size_t begun = (frame_bytes - c->unsent_bytes % frame_bytes) % frame_bytes;
    ssize_t sent = write(c->socket, requests + begun, c->unsent_bytes);
    if (sent < 0 && errno == EAGAIN) {
      watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
      return;
    }
    if (sent < 0) fail_with_errno("a connection broke while requests were sent");
    c->unsent_bytes -= (size_t)sent;
  }
}

static void ask(connection *c, unsigned count_asked, unsigned depth, uint64_t now) {
  for (unsigned i = 0; i < count_asked; i++) c->sent_at[(c->head + c->in_flight++) % depth] = now;
  c->unsent_bytes += (size_t)count_asked * frame_bytes;
  send_requests(c);
}

static void take_replies(connection *c, unsigned depth) {
  static unsigned char bytes[1 << 18];
  ssize_t length = read(c->socket, bytes, sizeof bytes);
  if (length < 0 && errno == EAGAIN) return;
  if (length < 0) fail_with_errno("a connection broke while replies came");
  if (length == 0) fail("the server has closed a connection");
  unsigned replies = check_replies(c, bytes, (size_t)length);
  if (replies > c->in_flight) fail("more replies came than requests were sent");
  uint64_t now = now_ns();
  for (unsigned i = 0; i < replies; i++) {
    count(now, c->sent_at[c->head]);
    c->head = (c->head + 1) % depth;
  }
  c->in_flight -= replies;
  if (replies > 0) ask(c, replies, depth, now);
}

/* ── calls on frames ── */

/* The number of a call, and of a reply: the first field, as a varint of five bytes. Numbers from 2^28 to 2^35 need as
 * many, so that all replies have one size. */
enum { number_at = header_bytes + 1, number_bytes = 5 };
static const uint64_t first_number = 1u << 28;
static size_t answer_at; /* where the numbers of a reply begin that may differ by a rounding */

typedef struct {
  connection c;
  unsigned char *unsent; /* room for twice DEPTH calls: those that are not sent are [from, to) */
  size_t from, to;
  uint64_t next;
} caller;

/* Calls in flight are few beside this many numbers, so each has a slot of its own for as long as it lasts. */
enum { slots_a_call = 8 };
static size_t slots;

static void put_number(unsigned char *at, uint64_t value) {
  for (int i = 0; i < number_bytes; i++, value >>= 7) at[i] = (unsigned char)((value & 0x7f) | (i < number_bytes - 1 ? 0x80 : 0));
}

static uint64_t number_in(const unsigned char *at) {
  uint64_t value = 0;
  for (int i = 0; i < number_bytes; i++) value |= (uint64_t)(at[i] & 0x7f) << (7 * i);
  return value;
}

static void send_calls(caller *one) {
  while (one->from < one->to) {
    ssize_t sent = write(one->c.socket, one->unsent + one->from, one->to - one->from);
    if (sent < 0 && errno == EAGAIN) {
      watch(&one->c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
      return;
    }
    if (sent < 0) fail_with_errno("a connection broke while calls were sent");
    one->from += (size_t)sent;
  }
  one->from = one->to = 0;
}

static void call(caller *one, unsigned count_asked, unsigned depth, uint64_t now) {
  const size_t bytes = (size_t)count_asked * frame_bytes;
  if (one->to + bytes > 2 * (size_t)depth * frame_bytes) {
    memmove(one->unsent, one->unsent + one->from, one->to - one->from);
    one->to -= one->from;
    one->from = 0;
  }
  memcpy(one->unsent + one->to, requests, bytes);
  for (unsigned i = 0; i < count_asked; i++, one->next++) {
    uint64_t *sent_at = &one->c.sent_at[one->next % slots];
    if (*sent_at != 0) fail("the reply to call %" PRIu64 " has not come, while those to many later ones have", one->next - slots);
    *sent_at = now;
    put_number(one->unsent + one->to + number_at, one->next);
    one->to += frame_bytes;
  }
  one->c.in_flight += count_asked;
  send_calls(one);
}

static int is_close(const unsigned char *a, const unsigned char *b) {
  float x, y;
  memcpy(&x, a, sizeof x);
  memcpy(&y, b, sizeof y);
  float distance = x > y ? x - y : y - x, size = x > 0 ? x : -x;
  return distance <= 1e-4f * (size > 1 ? size : 1);
}

static void check_call_reply(caller *one, const unsigned char *reply, uint64_t now) {
  connection *c = &one->c;
  const size_t rest_at = number_at + number_bytes;
  if (reply[header_bytes] != 0x08) fail("reply %" PRIu64 " of a connection does not begin with a number", c->replies);
  const uint64_t number = number_in(reply + number_at);
  uint64_t *sent_at = &c->sent_at[number % slots];
  if (number >= one->next || number + slots < one->next || *sent_at == 0)
    fail("reply %" PRIu64 " of a connection is to call %" PRIu64 ", which is not in flight", c->replies, number);
  if (!c->is_known) memcpy(c->expected, reply, reply_frame_bytes);
  c->is_known = 1;
  if (memcmp(reply + rest_at, c->expected + rest_at, answer_at - rest_at) != 0)
    fail("the reply to call %" PRIu64 " is not like the first one of its connection", number);
  for (size_t at = answer_at; at < reply_frame_bytes; at += sizeof(float))
    if (!is_close(reply + at, c->expected + at)) fail("the reply to call %" PRIu64 " has other numbers than the first one of its connection", number);
  count(now, *sent_at);
  *sent_at = 0;
  c->replies++;
}

static void take_call_replies(caller *one, unsigned depth) {
  static unsigned char bytes[1 << 18];
  connection *c = &one->c;
  ssize_t length = read(c->socket, bytes, sizeof bytes);
  if (length < 0 && errno == EAGAIN) return;
  if (length < 0) fail_with_errno("a connection broke while replies came");
  if (length == 0) fail("the server has closed a connection");
  const uint64_t now = now_ns();
  unsigned replies = 0;
  for (size_t at = 0; at < (size_t)length;) {
    /* The length field first: a reply of another size may have no more bytes. */
    size_t end = c->reply_at < header_bytes ? header_bytes : reply_frame_bytes;
    size_t part = (size_t)length - at < end - c->reply_at ? (size_t)length - at : end - c->reply_at;
    memcpy(c->received + c->reply_at, bytes + at, part);
    at += part;
    c->reply_at += part;
    if (c->reply_at == header_bytes) check_length(c);
    if (c->reply_at < reply_frame_bytes) continue;
    check_call_reply(one, c->received, now);
    c->reply_at = 0;
    replies++;
  }
  c->in_flight -= replies;
  if (replies > 0) call(one, replies, depth, now);
}

static void load_calls(unsigned connections, unsigned depth, double seconds) {
  slots = (size_t)slots_a_call * depth;
  connection *parts = make_connections(connections, (unsigned)slots);
  caller *all = allocate(connections, sizeof *all);
  struct epoll_event events[max_events];
  begin_measuring(seconds);
  for (unsigned i = 0; i < connections; i++) {
    all[i] = (caller){.c = parts[i], .unsent = allocate(2 * (size_t)depth, frame_bytes), .next = first_number};
    open_connection(&all[i].c, EPOLLIN | EPOLLOUT);
  }
  for (int ready; (ready = next_events(events)) > 0;) {
    for (int i = 0; i < ready; i++) {
      caller *one = events[i].data.ptr; /* its first member is the connection */
      if (events[i].events & EPOLLOUT) {
        watch(&one->c, EPOLL_CTL_MOD, EPOLLIN);
        if (one->c.in_flight == 0) call(one, depth, depth, now_ns());
        else send_calls(one);
      }
      if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) take_call_replies(one, depth);
    }
  }
  print_result(now_ns());
}

/* ── load of frames ── */

static void load(unsigned connections, unsigned depth, double seconds) {
  connection *all = make_connections(connections, depth);
  struct epoll_event events[max_events];
  begin_measuring(seconds);
  for (unsigned i = 0; i < connections; i++) open_connection(&all[i], EPOLLIN | EPOLLOUT);
  for (int ready; (ready = next_events(events)) > 0;) {
    for (int i = 0; i < ready; i++) {
      connection *c = events[i].data.ptr;
      if (events[i].events & EPOLLOUT) {
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
        if (c->in_flight == 0) ask(c, depth, depth, now_ns());
        else send_requests(c);
      }
      if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) take_replies(c, depth);
    }
  }
  print_result(now_ns());
}

/* ── connections a second ── */

static void reset(connection *c) {
  struct linger at_once = {.l_onoff = 1, .l_linger = 0};
  setsockopt(c->socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(c->socket);
}

static void begin_visit(connection *c) {
  c->sent_at[0] = now_ns();
  c->replies = 0;
  c->reply_at = 0;
  open_connection(c, EPOLLOUT);
}

static void go_on_with_visit(connection *c, uint32_t what) {
  if (what & EPOLLOUT) {
    /* A new connection accepts a small frame whole, or it has failed. */
    if (write(c->socket, requests, frame_bytes) != (ssize_t)frame_bytes) fail_with_errno("a connection failed");
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    return;
  }
  unsigned char bytes[4096];
  ssize_t length = read(c->socket, bytes, sizeof bytes);
  if (length < 0 && errno == EAGAIN) return;
  if (length < 0) fail_with_errno("a connection broke before its reply");
  if (length == 0) fail("the server has closed a connection before its reply");
  if (check_replies(c, bytes, (size_t)length) == 0) return;
  count(now_ns(), c->sent_at[0]);
  reset(c);
  begin_visit(c);
}

static void visit(unsigned at_once, double seconds) {
  connection *all = make_connections(at_once, 1);
  struct epoll_event events[max_events];
  begin_measuring(seconds);
  for (unsigned i = 0; i < at_once; i++) begin_visit(&all[i]);
  for (int ready; (ready = next_events(events)) > 0;)
    for (int i = 0; i < ready; i++) go_on_with_visit(events[i].data.ptr, events[i].events);
  print_result(now_ns());
}

/* ── */

static long number(const char *text) {
  char *end;
  long value = strtol(text, &end, 10);
  if (*text == '\0' || *end != '\0' || value <= 0) fail("every argument but the first is a number above 0");
  return value;
}

static void make_requests(long payload_bytes, long most) {
  frame_bytes = header_bytes + (size_t)payload_bytes;
  /* One more: what is left to send may begin in the middle of a frame. */
  requests = allocate((size_t)most + 1, frame_bytes);
  uint32_t length = htonl((uint32_t)payload_bytes);
  for (long i = 0; i <= most; i++) memcpy(requests + (size_t)i * frame_bytes, &length, header_bytes);
}

/* Frames that each have this call. */
static void read_call(const char *file, long most) {
  FILE *stream = fopen(file, "rb");
  if (stream == NULL) fail_with_errno(file);
  static unsigned char bytes[1 << 20];
  const size_t length = fread(bytes, 1, sizeof bytes, stream);
  fclose(stream);
  if (length < 1 + number_bytes || length == sizeof bytes || bytes[0] != 0x08)
    fail("%s has no call that begins with its number", file);
  make_requests((long)length, most);
  for (long i = 0; i <= most; i++) memcpy(requests + (size_t)i * frame_bytes + header_bytes, bytes, length);
}

static double seconds_of(const char *text) {
  const double seconds = strtod(text, NULL);
  if (!(seconds > 0)) fail("SECONDS must be above 0");
  return seconds;
}

int main(int count_of_arguments, char **arguments) {
  const char *mode = count_of_arguments < 3 ? "" : arguments[1];
  const int is_calls = count_of_arguments == 9 && strcmp(mode, "load-calls") == 0;
  checks_bytes = strcmp(mode, "load-sizes") != 0;
  const int is_load = count_of_arguments == 8 && (!checks_bytes || strcmp(mode, "load") == 0);
  const int is_connect = count_of_arguments == 7 && strcmp(mode, "connect") == 0;
  if (!is_load && !is_calls && !is_connect) fail("see the top of client.c for its arguments");
  const long connections = number(arguments[3]);
  const long depth = is_connect ? 1 : number(arguments[4]);
  char **bytes = arguments + (is_connect ? 4 : 5);
  signal(SIGPIPE, SIG_IGN);
  server.sin_port = htons((uint16_t)number(arguments[2]));
  server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  poller = epoll_create1(0);
  if (poller < 0) fail_with_errno("epoll_create1");
  if (is_calls) read_call(bytes[0], depth);
  else make_requests(number(bytes[0]), depth);
  reply_frame_bytes = header_bytes + (size_t)number(bytes[1]);
  if (is_calls) {
    const size_t answer_bytes = (size_t)number(bytes[2]) * sizeof(float);
    if (answer_bytes + number_at + number_bytes > reply_frame_bytes) fail("a reply has no place for its ANSWER_FLOATS");
    answer_at = reply_frame_bytes - answer_bytes;
    load_calls((unsigned)connections, (unsigned)depth, seconds_of(bytes[3]));
  } else if (is_load) load((unsigned)connections, (unsigned)depth, seconds_of(bytes[2]));
  else visit((unsigned)connections, seconds_of(bytes[2]));
  return 0;
}
