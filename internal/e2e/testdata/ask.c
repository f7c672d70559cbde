/* Takes "host", a type and a name or address; or "query", a type, a name and
   the number of the type. */
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int fail(int code) {
	if (code == EAI_NONAME || code == -5) /* EAI_NODATA */
		puts("nothing");
	else
		printf("error: %s\n", gai_strerror(code));
	return 0;
}

static int host(const char *type, const char *name) {
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
	char text[NI_MAXHOST];
	int code, reverse = !strcmp(type, "PTR");
	if (reverse)
		hints.ai_flags = AI_NUMERICHOST;
	else if (strcmp(type, "addrs"))
		hints.ai_family = strcmp(type, "A") ? AF_INET6 : AF_INET;
	if ((code = getaddrinfo(name, NULL, &hints, &list)))
		return fail(code);
	for (a = list; a; a = a->ai_next) {
		if ((code = getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, reverse ? NI_NAMEREQD : NI_NUMERICHOST)))
			return fail(code);
		puts(text);
	}
	return 0;
}

static unsigned char buf[65536];

static void show(ns_msg *m, ns_rr *rr) {
	const unsigned char *p = ns_rr_rdata(*rr), *end = p + ns_rr_rdlen(*rr);
	char text[1025], more[1025];
	switch (ns_rr_type(*rr)) {
	case ns_t_a:
		puts(inet_ntop(AF_INET, p, text, sizeof text));
		return;
	case ns_t_aaaa:
		puts(inet_ntop(AF_INET6, p, text, sizeof text));
		return;
	case ns_t_txt:
		for (; p < end; p += 1 + *p)
			printf("\"%.*s\"\n", *p, p + 1);
		return;
	case ns_t_srv:
		printf("%d %d ", ns_get16(p), ns_get16(p + 2));
		p += 4;
	case ns_t_mx:
		printf("%d ", ns_get16(p));
		p += 2;
	}
	int n = dn_expand(ns_msg_base(*m), ns_msg_end(*m), p, text, sizeof text);
	if (n < 0)
		puts("a name that can't be read");
	else if (ns_rr_type(*rr) == ns_t_soa && dn_expand(ns_msg_base(*m), ns_msg_end(*m), p + n, more, sizeof more) > 0)
		printf("%s %s\n", text, more);
	else
		puts(text);
}

static int query(const char *name, int type) {
	int i, some = 0, n = res_query(name, ns_c_in, type, buf, sizeof buf);
	ns_msg m;
	ns_rr rr;
	if (n < 0 && h_errno == HOST_NOT_FOUND || n > 0 && (buf[3] & 15) == ns_r_nxdomain)
		return puts("NXDOMAIN"), 0;
	if (n < 0 && h_errno == NO_DATA)
		return puts("NODATA"), 0;
	if (n < 0 || buf[3] & 15 || ns_initparse(buf, n, &m))
		return printf("error: %d octets, rcode %d, h_errno %d\n", n, buf[3] & 15, h_errno), 0;
	for (i = 0; i < ns_msg_count(m, ns_s_an) && !ns_parserr(&m, ns_s_an, i, &rr); i++)
		if (ns_rr_type(rr) == type)
			show(&m, &rr), some = 1;
	if (!some)
		puts("NODATA");
	return 0;
}

int main(int argc, char **argv) {
	return strcmp(argv[1], "host") ? query(argv[3], atoi(argv[4])) : host(argv[2], argv[3]);
}
