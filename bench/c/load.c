/* Asks a DNS server on 127.0.0.1 over UDP: load PORT FILE SECONDS IN-FLIGHT RATE PERMILLE
 *
 * FILE has queries, each behind its length in two octets. With RATE 0 that many are kept in flight;
 * else they are sent at that rate. Prints the replies, how many a second, and the latency in
 * microseconds that so many of a thousand have at most (0 with RATE 0). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

enum { most = 64, size = 2048, slots = 1 << 20 };

static unsigned char out[most][512], in[most][size];
static struct iovec out_vecs[most], in_vecs[most];
static struct mmsghdr outs[most], ins[most];
static unsigned char *file, *next, *end;
static double sent_at[65536];
static unsigned histogram[slots]; /* by microseconds */

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int ask(int fd, int count, unsigned *id) {
	int i;
	for (i = 0; i < count; i++) {
		if (next >= end)
			next = file;
		int n = next[0] << 8 | next[1];
		memcpy(out[i], next + 2, n);
		next += 2 + n;
		out[i][0] = *id >> 8, out[i][1] = *id;
		sent_at[(*id)++ & 65535] = now();
		out_vecs[i] = (struct iovec){out[i], n};
		outs[i].msg_hdr = (struct msghdr){.msg_iov = &out_vecs[i], .msg_iovlen = 1};
	}
	for (i = 0; i < count;) {
		int n = sendmmsg(fd, outs + i, count - i, 0);
		if (n < 0)
			return perror("sendmmsg"), exit(1), 0;
		i += n;
	}
	return count;
}

static int take(int fd, int flags) {
	int i, n;
	for (i = 0; i < most; i++) {
		in_vecs[i] = (struct iovec){in[i], size};
		ins[i].msg_hdr = (struct msghdr){.msg_iov = &in_vecs[i], .msg_iovlen = 1};
	}
	n = recvmmsg(fd, ins, most, flags, NULL);
	if (n < 0 && errno != EAGAIN)
		perror("recvmmsg"), exit(1);
	return n < 0 ? 0 : n;
}

int main(int argc, char **argv) {
	if (argc != 7)
		return 2;
	int fd = socket(AF_INET, SOCK_DGRAM, 0), f = open(argv[2], O_RDONLY), in_flight = atoi(argv[4]), i, n;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval wait = {.tv_usec = 100000};
	struct stat st;
	double seconds = atof(argv[3]), rate = atof(argv[5]), begun, t;
	unsigned id = 0, done = 0, sent = 0;
	if (fd < 0 || f < 0 || fstat(f, &st) || connect(fd, (struct sockaddr *)&a, sizeof a) || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait))
		return perror("load"), 1;
	prctl(PR_SET_TIMERSLACK, 1);
	file = next = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, f, 0);
	end = file + st.st_size;
	begun = now();
	if (rate == 0) {
		ask(fd, in_flight, &id);
		while (now() - begun < seconds) {
			n = take(fd, MSG_WAITFORONE);
			done += n;
			ask(fd, n ? n : in_flight, &id); /* all lost: again */
		}
		t = now() - begun;
		printf("%u %.0f 0\n", done, done / t);
		return 0;
	}
	while ((t = now() - begun) < seconds) {
		n = t * rate - sent;
		if (n > most)
			n = most;
		if (n > 0)
			sent += ask(fd, n, &id);
		struct pollfd p = {.fd = fd, .events = POLLIN};
		double left = (sent + 1) / rate - (now() - begun);
		struct timespec until = {.tv_nsec = left > 0 ? left * 1e9 : 0};
		ppoll(&p, 1, &until, NULL); /* others may have the processor meanwhile */
		n = take(fd, MSG_DONTWAIT);
		for (i = 0; i < n; i++) {
			int us = (now() - sent_at[in[i][0] << 8 | in[i][1]]) * 1e6;
			histogram[us < 0 ? 0 : us >= slots ? slots - 1 : us]++;
			done++;
		}
	}
	unsigned left = done * (1000 - atof(argv[6])) / 1000;
	for (i = slots - 1; i > 0 && histogram[i] <= left; i--)
		left -= histogram[i];
	printf("%u %.0f %d\n", done, done / t, i);
	return 0;
}
