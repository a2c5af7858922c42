// flood: bad packets to media ports, as many as it can or is told: noise, RTP of strangers, forged STUN, large, empty and oversized ones.
// usage: flood TARGETS SECONDS PPS SRC_NET   (TARGETS: lines "ip port"; strangers are SRC_NET.129 to .136; PPS 0: no limit)
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define STRANGERS 8
#define TRAIN 32
static uint64_t now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000ull + t.tv_nsec; }
static uint64_t state = 88172645463325252ull;
static uint64_t dice(void) { state ^= state << 13; state ^= state >> 7; return state ^= state << 17; }
static void fill(uint8_t *p, int n) { for (int i = 0; i + 8 <= n; i += 8) { uint64_t d = dice(); memcpy(p + i, &d, 8); } }
// A train of equal packets leaves by one call and is cut into datagrams before the wire (UDP_SEGMENT of udp(7)).
static int train(int s, struct sockaddr_in *to, uint8_t *bytes, int size, int count) {
  struct iovec io = {bytes, size * count}; char control[CMSG_SPACE(2)] = {0};
  struct msghdr m = {.msg_name = to, .msg_namelen = sizeof *to, .msg_iov = &io, .msg_iovlen = 1};
  if (count > 1) {
    m.msg_control = control; m.msg_controllen = sizeof control;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m); h->cmsg_level = SOL_UDP; h->cmsg_type = UDP_SEGMENT; h->cmsg_len = CMSG_LEN(2); *(uint16_t *)CMSG_DATA(h) = size;
  }
  return sendmsg(s, &m, 0) < 0 ? 0 : count;
}
int main(int c, char **v) {
  if (c < 5) return 2;
  FILE *f = fopen(v[1], "r"); double secs = atof(v[2]); uint64_t pps = atoll(v[3]), sent = 0, failed = 0; struct sockaddr_in *to = 0; int n = 0, s[STRANGERS]; char ip[64]; unsigned port;
  while (fscanf(f, "%63s %u", ip, &port) == 2) { to = realloc(to, (n + 1) * sizeof *to); memset(&to[n], 0, sizeof *to); to[n].sin_family = AF_INET; to[n].sin_port = htons(port); inet_aton(ip, &to[n++].sin_addr); }
  if (!n) return 2;
  for (int i = 0; i < STRANGERS; i++) {
    struct sockaddr_in a = {.sin_family = AF_INET}; char at[80]; snprintf(at, sizeof at, "%s.%d", v[4], 129 + i); inet_aton(at, &a.sin_addr);
    int big = 4 << 20; s[i] = socket(AF_INET, SOCK_DGRAM, 0); setsockopt(s[i], SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
    if (bind(s[i], (void *)&a, sizeof a)) { perror("bind"); return 1; }
  }
  static uint8_t b[TRAIN * 1400 + 64]; uint64_t t0 = now(), end = t0 + (uint64_t)(secs * 1e9);
  for (uint64_t t = t0, k = 0; t < end; t = now(), k++) {
    if (pps && sent > (t - t0) / 1e9 * pps) { usleep(50); continue; }
    struct sockaddr_in *at = &to[k % n]; int by = s[dice() % STRANGERS], kind = dice() % 64, size = 172, count = TRAIN, d;
    if (kind == 0) count = 1, size = 9300;                               // fragments, and too large to be anything
    else if (kind == 1) count = 1, size = 0;
    else if (kind < 6) size = 1372, count = TRAIN;
    fill(b, kind ? size * count : 256);
    for (int i = 0; i < count; i++) {
      uint8_t *p = b + i * size;
      if (kind >= 24 && kind < 48) { p[0] = 0x80; p[1] = kind & 1 ? 0 : 8; p[2] = k >> 8; p[3] = k + i; }            // RTP of a stranger
      else if (kind >= 48) { static const uint8_t stun[28] = {0, 1, 0, 152, 0x21, 0x12, 0xa4, 0x42}; memcpy(p, stun, 8); p[20] = 0; p[21] = 6; p[22] = 0; p[23] = 9; } // a check with a forged name
    }
    d = train(by, at, b, size, count); sent += d; failed += !d;
  }
  double el = (now() - t0) / 1e9;
  printf("sent %lu in %.3f s = %.0f pps, %lu refused\n", sent, el, sent / el, failed);
}
