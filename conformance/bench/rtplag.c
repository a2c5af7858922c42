// rtplag: how long ago each packet that arrives was made (rtpgen stamps them), by the kernel's own time of arrival.
// usage: rtplag IP SECONDS < PORTS   prints "COUNT P50 P99 P999", in microseconds
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#define MOST (1 << 23)
static uint32_t lag[MOST];
static int by_size(const void *a, const void *b) { uint32_t x = *(uint32_t *)a, y = *(uint32_t *)b; return (x > y) - (x < y); }
int main(int c, char **v) {
  if (c < 3) return 2;
  int e = epoll_create1(0), on = 1, big = 8 << 20; unsigned port; size_t n = 0;
  while (scanf("%u", &port) == 1) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)}; inet_aton(v[1], &a.sin_addr);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    setsockopt(s, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on); setsockopt(s, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
    if (bind(s, (void *)&a, sizeof a)) { perror("bind"); return 1; }
    struct epoll_event w = {.events = EPOLLIN, .data.fd = s}; epoll_ctl(e, EPOLL_CTL_ADD, s, &w);
  }
  puts("ready"); fflush(stdout);
  for (time_t end = time(0) + atoi(v[2]); time(0) < end;) {
    struct epoll_event w[64]; int k = epoll_wait(e, w, 64, 100);
    for (int j = 0; j < k; j++)
      for (;;) {
        char b[2048], control[64]; struct iovec io = {b, sizeof b}; uint64_t made; struct timespec t;
        struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(w[j].data.fd, &m, 0) < 20) break;
        struct cmsghdr *h = CMSG_FIRSTHDR(&m); if (!h || n == MOST) continue;
        memcpy(&t, CMSG_DATA(h), sizeof t); memcpy(&made, b + 12, sizeof made);
        int64_t took = t.tv_sec * 1000000000ll + t.tv_nsec - (int64_t)made; lag[n++] = took < 0 ? 0 : took / 100;
      }
  }
  qsort(lag, n, sizeof *lag, by_size);
  if (n) printf("%zu %.1f %.1f %.1f\n", n, lag[n / 2] / 10., lag[n - 1 - n / 100] / 10., lag[n - 1 - n / 1000] / 10.);
}
