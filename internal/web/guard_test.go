package web

import (
	"net/http"
	"testing"
)

// A web page elsewhere must not read or write here, nor one whose name was pointed at our address.
func TestGuard(t *testing.T) {
	for _, tt := range []struct {
		what    string
		headers []string
		allowed bool
	}{
		{"curl", nil, true},
		{"an address", []string{"Host: 172.17.0.1:80"}, true},
		{"an IPv6 address", []string{"Host: [fd00::1]:80"}, true},
		{"an IPv6 address without port", []string{"Host: [fd00::1]"}, true},
		{"localhost", []string{"Host: localhost:8053"}, true},
		{"LOCALHOST.", []string{"Host: LOCALHOST.:8053"}, true},
		{"our own name", []string{"Host: dnsdock.docker"}, true},
		{"our own name in capitals", []string{"Host: DNSDOCK.DOCKER.:80"}, true},
		{"the apex", []string{"Host: docker"}, true},
		{"a container's name", []string{"Host: web.nginx.docker"}, false},
		{"a container's name, own page", []string{"Host: web.nginx.docker", "Origin: http://web.nginx.docker", "Sec-Fetch-Site: same-origin"}, false},
		{"an alias", []string{"Host: www.docker"}, false},
		{"an alias outside the domain", []string{"Host: shop.example.org:80"}, false},
		{"a name below our own", []string{"Host: x.dnsdock.docker"}, false},
		{"our own page", []string{"Host: dnsdock.docker", "Origin: http://dnsdock.docker", "Sec-Fetch-Site: same-origin"}, true},
		{"our own page, old browser", []string{"Host: dnsdock.docker:8053", "Origin: http://dnsdock.docker:8053"}, true},
		{"typed by the user", []string{"Sec-Fetch-Site: none"}, true},
		{"another page", []string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site"}, false},
		{"another page, old browser", []string{"Origin: http://evil.example"}, false},
		{"another page, no origin", []string{"Sec-Fetch-Site: cross-site"}, false},
		{"a page of the same site", []string{"Host: dnsdock.docker", "Origin: http://web.nginx.docker", "Sec-Fetch-Site: same-site"}, false},
		{"another port", []string{"Host: 127.0.0.1:8053", "Origin: http://127.0.0.1:9999"}, false},
		{"a sandboxed page", []string{"Origin: null"}, false},
		{"a link in another page", []string{"Origin: http://evil.example", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors"}, false},
		{"dnsdock in a network of Docker's", []string{"Host: dnsdock:80"}, true},
		{"a rebound name", []string{"Host: evil.example", "Origin: http://evil.example", "Sec-Fetch-Site: same-origin"}, false},
		{"a rebound name with port", []string{"Host: evil.example:80", "Sec-Fetch-Site: same-origin"}, false},
		{"a rebound name, old browser", []string{"Host: evil.example:80", "Origin: http://evil.example:80"}, false},
		{"a rebound name, no header", []string{"Host: evil.example"}, false},
		{"an address in a name", []string{"Host: 127.0.0.1.evil.example"}, false},
		{"our name in a name", []string{"Host: docker.evil.example"}, false},
		{"a name that ends as ours", []string{"Host: evildocker"}, false},
		{"a name above an alias", []string{"Host: example.org"}, false},
		{"no name, as no browser does", []string{"Host: "}, true},
		{"a broken name", []string{"Host: a..b"}, false},
		{"localhost in a name", []string{"Host: localhost.evil.example"}, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			s := newSite(t)
			h := s.handler()
			for _, method := range []string{"PUT", "PATCH", "POST", "DELETE"} {
				want, writes := http.StatusOK, s.writes
				if !tt.allowed {
					want = http.StatusForbidden
				}
				r := call(t, h, method, "/services/manual", "{}", tt.headers...)
				if r.Code != want {
					t.Errorf("%s: got %d %s; want %d", method, r.Code, r.Body, want)
				}
				if want == http.StatusForbidden {
					errorOf(t, r)
				}
				if (s.writes > writes) != tt.allowed {
					t.Errorf("%s: something was changed: %t; want %t", method, s.writes > writes, tt.allowed)
				}
			}
			want := http.StatusOK
			if !tt.allowed {
				want = http.StatusForbidden
			}
			for _, path := range []string{"/", "/services", "/status", "/healthz"} {
				r := call(t, h, "GET", path, "", tt.headers...)
				if r.Code != want {
					t.Errorf("GET %s: got %d %s; want %d", path, r.Code, r.Body, want)
				}
				for _, k := range []string{
					"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "X-Frame-Options", "Cross-Origin-Resource-Policy",
				} {
					if r.Header().Get(k) == "" {
						t.Errorf("GET %s: no header %s", path, k)
					}
				}
			}
		})
	}
}
