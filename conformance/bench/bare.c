// bare: the least a relay can do: what comes to one port of a pair leaves by the other, to where that one was last heard from.
// usage: bare IP FIRST PAIRS   (ports FIRST, FIRST + 2, FIRST + 4 …; the first and the second are a pair, and so on)
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
int main(int c, char **v) {
  if (c < 4) return 2;
  int n = 2 * atoi(v[3]), *s = calloc(n, sizeof *s), e = epoll_create1(0), on = 1 << 20; struct sockaddr_in *to = calloc(n, sizeof *to);
  for (int i = 0; i < n; i++) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(v[2]) + 2 * i)}; inet_aton(v[1], &a.sin_addr);
    s[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0); setsockopt(s[i], SOL_SOCKET, SO_RCVBUF, &on, sizeof on);
    if (bind(s[i], (void *)&a, sizeof a)) { perror("bind"); return 1; }
    struct epoll_event w = {.events = EPOLLIN, .data.u32 = i}; epoll_ctl(e, EPOLL_CTL_ADD, s[i], &w);
  }
  for (;;) {
    struct epoll_event w[64]; int k = epoll_wait(e, w, 64, -1);
    for (int j = 0; j < k; j++) {
      int i = w[j].data.u32, o = i ^ 1; char b[2048]; socklen_t l = sizeof to[i]; ssize_t got;
      while ((got = recvfrom(s[i], b, sizeof b, 0, (void *)&to[i], &l)) >= 0)
        if (to[o].sin_port) sendto(s[o], b, got, 0, (void *)&to[o], sizeof to[o]);
    }
  }
}
