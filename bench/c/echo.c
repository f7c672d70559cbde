/* Sends each UDP packet back: the limit of what a server on this socket path can do. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { batch = 32, size = 4096 };

static char bufs[batch][size];
static struct sockaddr_in froms[batch];
static struct iovec vecs[batch];
static struct mmsghdr msgs[batch];

int main(int argc, char **argv) {
	int i, n, fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (argc < 2 || fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a))
		return 1;
	for (;;) {
		for (i = 0; i < batch; i++) {
			vecs[i] = (struct iovec){bufs[i], size};
			msgs[i].msg_hdr = (struct msghdr){.msg_name = &froms[i], .msg_namelen = sizeof froms[i], .msg_iov = &vecs[i], .msg_iovlen = 1};
		}
		if ((n = recvmmsg(fd, msgs, batch, MSG_WAITFORONE, NULL)) < 0)
			return 1;
		for (i = 0; i < n; i++) {
			vecs[i].iov_len = msgs[i].msg_len;
			bufs[i][2] |= 0x80; /* a reply */
		}
		sendmmsg(fd, msgs, n, 0);
	}
}
