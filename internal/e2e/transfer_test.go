package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/rayje/dnsdock/internal/dnstest"
)

// transferred returns the records of the zone docker, and what the transfer failed with.
func (in *instance) transferred(t *testing.T, key string) (list []dns.RR, err error) {
	t.Helper()
	tr, q := new(dns.Transfer), new(dns.Msg).SetAxfr("docker.")
	if key != "" {
		tr.TsigSecret = map[string]string{"k.": key}
		q.SetTsig("k.", dns.HmacSHA256, 300, time.Now().Unix())
	}
	messages, err := tr.In(q, in.dns)
	if err != nil {
		t.Fatal(err)
	}
	for m := range messages {
		list, err = append(list, m.RR...), errors.Join(err, m.Error)
	}
	return list, err
}

// await waits until the zone can be transferred: after a SERVFAIL some nameservers wait for a minute.
func (in *instance) await(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(dnstest.Patience); time.Now().Before(end); <-tick.C {
		if status, _ := in.call(t, "GET", "/zone", ""); status == http.StatusOK {
			return
		}
	}
	t.Fatal("the zone stays unknown")
}

// The programs by which people check zones take what GET /zone prints, with transfers and without.
func TestZoneText(t *testing.T) {
	t.Parallel()
	dnstest.Needs(t, "nsd-checkzone", "named-checkzone", "kzonecheck")
	e := dnstest.NewEngine()
	e.Start("aa", "redis1", "172.17.0.2")
	docker := "-docker=" + e.ServeTCP(t, nil)
	for _, arg := range []string{"-transfer=127.0.0.1:9", "-transfer="} {
		in := startDnsdock(t, docker, arg)
		in.ready(t)
		for id, body := range map[string]string{
			"a": `"image":"m","ips":["10.1.0.1","fd00::1"],"ports":["80/tcp=http","53/udp"],"txt":["a \"b\";","` +
				strings.Repeat("x", 300) + `"]`,
			"c": `"image":"m","cname":"redis1.docker"`,
			"u": `"image":"m","ip":"10.1.0.3","aliases":["x_y.docker","shop.example.com","b.a.m.docker"]`,
		} {
			if status, reply := in.call(t, "PUT", "/services/"+id, `{"name":"`+id+`",`+body+`}`); status != 201 {
				t.Fatal(reply)
			}
		}
		text := ""
		for end := time.Now().Add(dnstest.Patience); !strings.Contains(text, "x_y.docker."); {
			if _, text = in.call(t, "GET", "/zone", ""); time.Now().After(end) {
				t.Fatalf("no x_y in\n%s", text)
			}
		}
		file := filepath.Join(t.TempDir(), "zone")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{
			"nsd-checkzone docker", "named-checkzone -k ignore -i local docker", "kzonecheck -o docker",
		} {
			args := append(strings.Fields(command), file)
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s\n%s", command, err, out, text)
			}
		}
		if strings.Contains(text, "example.com") || strings.Count(text, "\tSOA\t") != 1 {
			t.Errorf("a name outside, or not one SOA:\n%s", text)
		}
	}
}

// While engines are away from the start, a zone is transferred if the state file had services of it.
func TestTransferOfState(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state.json")
	args := []string{"-docker=tcp://" + closedPort(t), "-transfer=127.0.0.1:9", "-state=" + file}
	in := startDnsdock(t, args...)
	in.log.Wait(t, "engine away")
	if status, reply := in.call(t, "PUT", "/services/a", `{"name":"a","image":"made","ip":"10.1.0.1"}`); status != 201 {
		t.Fatal(reply)
	}
	if list, err := in.transferred(t, ""); err == nil || !strings.Contains(err.Error(), "bad xfr rcode: 2") {
		t.Errorf("without a state: got %v, %v; want SERVFAIL", list, err)
	}
	if err := in.stop(); err != nil {
		t.Fatal(err)
	}
	in = startDnsdock(t, args...)
	in.await(t)
	list, err := in.transferred(t, "")
	if err != nil || !strings.Contains(fmt.Sprint(list), "a.made.docker.") {
		t.Errorf("with one: got %v, %v", list, err)
	}
}

// SIGHUP reads the keys again. With a file that can't be used those from before stay, and the log says so.
func TestTransferKeys(t *testing.T) {
	t.Parallel()
	e := dnstest.NewEngine()
	const first, second = "b25lIHNlY3JldCBvZiBtb3JlIHRoYW4gMTYgYnl0ZXM=", "YW5vdGhlciBzZWNyZXQgb2YgMTYgYnl0ZXM="
	file := filepath.Join(t.TempDir(), "key")
	write := func(secret string) {
		t.Helper()
		text := fmt.Sprintf("key \"k\" {\n\talgorithm hmac-sha256;\n\tsecret \"%s\";\n};\n", secret)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first)
	p := startProcess(t, "-dns=127.0.0.1:0", "-http=127.0.0.1:0", "-nameserver=",
		"-docker="+e.ServeTCP(t, nil), "-transfer=127.0.0.1:9", "-transfer-key-file="+file)
	in := newInstance(t, p)
	in.await(t)
	check := func(good, bad string) {
		t.Helper()
		if list, err := in.transferred(t, good); err != nil || len(list) < 4 {
			t.Errorf("with the key: got %v, %v", list, err)
		}
		for _, key := range []string{bad, ""} {
			if list, err := in.transferred(t, key); err == nil {
				t.Errorf("with the key %q: got %v", key, list)
			}
		}
	}
	check(first, second)
	write(second)
	in.seen(t, func() { p.signal(t, syscall.SIGHUP) }, "level=INFO", "keys are read")
	check(second, first)
	write("short")
	in.seen(t, func() { p.signal(t, syscall.SIGHUP) }, "level=ERROR", "keys can't be read", file, "16 bytes or more")
	check(second, first)
}

// Strangers and broken messages get an error or nothing, a thousand connections at once do no harm, and the page shows
// who transferred the zone.
func TestHostileTransfers(t *testing.T) {
	t.Parallel()
	e := dnstest.NewEngine()
	e.Start("aa", "redis1", "172.17.0.2")
	in := startDnsdock(t, "-docker="+e.ServeTCP(t, nil), "-transfer=127.0.0.0/16")
	in.await(t)
	axfr := new(dns.Msg).SetAxfr("docker.")
	if m := in.ask(t, "udp", "docker", dns.TypeAXFR); m.Rcode == dns.RcodeSuccess || len(m.Answer) > 0 {
		t.Errorf("AXFR over UDP: got %v", m)
	}
	for range 2 {
		for _, network := range []string{"udp", "tcp"} {
			m := dnstest.Exchange(t, network, in.dns, new(dns.Msg).SetNotify("docker."))
			if m.Rcode != dns.RcodeNotImplemented {
				t.Errorf("NOTIFY over %s: got %v; want NOTIMP", network, m)
			}
		}
	}
	future := new(dns.Msg).SetIxfr("docker.", uint32(time.Now().Unix())+1_000_000, "a.", "b.")
	if m := dnstest.Exchange(t, "tcp", in.dns, future); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 1 {
		t.Errorf("IXFR with a serial of the future: got %v; want the SOA alone", m)
	}
	stranger := &dns.Client{Net: "tcp", Dialer: &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, 0, 1)}}}
	if m, _, err := stranger.Exchange(axfr, in.dns); err != nil || m.Rcode != dns.RcodeRefused {
		t.Errorf("a client that -transfer does not name: got %v, %v; want REFUSED", m, err)
	}
	in.storm(t, axfr)
	in.want(t, "redis1.redis.docker A", "NOERROR", "172.17.0.2")
	if list, err := in.transferred(t, ""); err != nil || len(list) < 4 {
		t.Errorf("after 1,000 connections: got %v, %v", list, err)
	}
	_, page := in.call(t, "GET", "/", "")
	row := regexp.MustCompile(`<td><code>127\.0\.0\.1</code><td>none<td>\d+ s ago AXFR<td>\d{10}</tr>`)
	if !row.MatchString(strings.ReplaceAll(page, "\n", "")) {
		t.Errorf("the page has no row of 127.0.0.1:\n%.3000s", page[strings.Index(page, "Secondaries")+1:])
	}
}

// storm asks by a thousand connections from 200 addresses at once. A tenth of them sends half a message.
func (in *instance) storm(t *testing.T, axfr *dns.Msg) {
	t.Helper()
	q, err := axfr.Pack()
	if err != nil {
		t.Fatal(err)
	}
	whole := append([]byte{0, byte(len(q))}, q...)
	var full, later atomic.Int64
	var all sync.WaitGroup
	for i := range 1000 {
		all.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%200))}, Timeout: dnstest.Patience}
			c, err := d.Dial("tcp", in.dns)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if i%10 == 0 { // half a message
				_, _ = c.Write(whole[:len(whole)/2]) // it may be closed to make room
				return
			}
			_, _ = c.Write(whole)
			b := make([]byte, 1<<16)
			if n, err := io.ReadAtLeast(c, b, 6); err != nil || n < 6 { // closed to make room
				return
			}
			switch b[5] & 0xf {
			case dns.RcodeSuccess:
				full.Add(1)
			case dns.RcodeServerFailure:
				later.Add(1)
			default:
				t.Errorf("rcode %d", b[5]&0xf)
			}
		})
	}
	all.Wait()
	t.Logf("%d transfers, and %d clients are told to come later", full.Load(), later.Load())
	if full.Load() == 0 {
		t.Error("no transfer succeeds")
	}
}
