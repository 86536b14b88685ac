package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A load is a way to use a web server; its figure is requests a second.
type load struct {
	name   string
	tool   string
	args   []string
	prefix string // of the line that holds the figure
	done   string // a pattern for how many requests there were
}

const (
	site     = "http://127.0.0.1:18080/"
	safeSite = "https://127.0.0.1:18443/"
	abDone   = `Complete requests: +(\d+)`
)

// Each request on a connection of its own, of five bytes and not encrypted, is the worst
// that can be asked of whoever records connections; servers are measured with connections
// kept, and those that do not keep them have handshakes to make.
var loads = []load{
	{"a connection a request (ab -c 20)", "ab", []string{"-q", "-n", "15000", "-c", "20", site}, "Requests per second:", abDone},
	{"a TLS connection a request (ab -c 20)", "ab", []string{"-q", "-n", "600", "-c", "20", safeSite}, "Requests per second:", abDone},
	{"kept connections (wrk -c 64)", "wrk", []string{"-t", "1", "-c", "64", "-d", "1", site}, "Requests/sec:", `(\d+) requests in`},
}

func (l load) run() (float64, error) {
	m, err := l.measure()
	return m.rate, err
}

// A measured load says what the client does, whose CPU time is part of it.
type measured struct {
	rate, requests float64
	cpu            time.Duration
}

func (l load) measure() (m measured, err error) {
	cmd := exec.Command(l.tool, l.args...)
	out, err := cmd.Output()
	if err != nil {
		return m, err
	}
	m.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	_, line, _ := bytes.Cut(out, []byte(l.prefix))
	done := regexp.MustCompile(l.done).FindSubmatch(out)
	figure := bytes.Fields(line)
	if len(figure) == 0 || done == nil {
		return m, fmt.Errorf("%s printed no rate: %s", l.tool, out)
	}
	var errDone error
	m.rate, err = strconv.ParseFloat(string(figure[0]), 64)
	m.requests, errDone = strconv.ParseFloat(string(done[1]), 64)
	return m, errors.Join(err, errDone)
}

// nginx is the throughput of a real server, recorded and not. The floor are
// empty programs at the same hooks, with nobody who reads anything. The best
// rounds are told beside the medians: other load only ever takes away. Each side has
// the load twice: in its first second a recording touches its memory for the first time.
func (b *bench) nginx() error {
	for _, tool := range []string{"nginx", "ab", "wrk"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.row("skipped", "%s is not installed", tool)
			return nil
		}
	}
	server, err := b.serve()
	if err != nil {
		return err
	}
	defer func() { server.Process.Signal(syscall.SIGTERM); server.Wait() }()
	pids, err := family(server.Process.Pid)
	if err != nil {
		return err
	}
	for _, l := range loads {
		sides := []*webSide{
			{name: "unrecorded", run: l.twice},
			{name: "floor: empty programs at the same hooks", run: func() (rates, error) { return b.emptyHooks(l) }},
			{name: "recorded, the whole machine", run: func() (rates, error) { return b.recorded(l) }},
			{name: "recorded, -p nginx", run: func() (rates, error) { return b.recorded(l, pids...) }},
			{name: "recorded, -p nginx -e nginx", run: func() (rates, error) { return b.recorded(l, append([]string{"-e", "nginx"}, pids...)...) }},
		}
		for range b.rounds {
			for _, s := range sides {
				r, err := s.run()
				if err != nil {
					return fmt.Errorf("%s: %s: %w", l.name, s.name, err)
				}
				s.first, s.later = append(s.first, r.first), append(s.later, r.later)
			}
		}
		plain := sides[0]
		b.row(l.name, "%.0f requests a second unrecorded, %.0f in the best round", median(plain.later), slices.Max(plain.later))
		for _, s := range sides[1:] {
			b.row("  "+s.name, "%.0f: %.3f, %.3f in the best round; at first %.3f", median(s.later), median(s.later)/median(plain.later),
				slices.Max(s.later)/slices.Max(plain.later), median(s.first)/median(plain.first))
		}
	}
	if err := b.breakdown("the whole machine", loads[0], pids); err != nil {
		return err
	}
	for _, l := range loads {
		if err := b.breakdown("-p nginx -e nginx", l, pids, append([]string{"-e", "nginx"}, pids...)...); err != nil {
			return err
		}
	}
	return nil
}

// family is -p for a process and for each of its children, which do nginx's work.
func family(pid int) ([]string, error) {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pid))
	if err != nil {
		return nil, err
	}
	flags := []string{"-p", strconv.Itoa(pid)}
	for _, c := range strings.Fields(string(children)) {
		flags = append(flags, "-p", c)
	}
	return flags, nil
}

// cpuTimes is the CPU time of the processes that are named as flags.
func cpuTimes(flags []string) (sum time.Duration, err error) {
	for i := 1; i < len(flags); i += 2 {
		pid, err := strconv.Atoi(flags[i])
		if err != nil {
			return 0, err
		}
		d, err := cpuTime(pid)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// A webSide is one way to serve the same load.
type webSide struct {
	name         string
	run          func() (rates, error)
	first, later []float64
}

// rates are those of a load and of the same right after it.
type rates struct{ first, later float64 }

func (l load) twice() (r rates, err error) {
	if r.first, err = l.run(); err == nil {
		r.later, err = l.run()
	}
	return r, err
}

// serve starts nginx.
func (b *bench) serve() (*exec.Cmd, error) {
	dir, err := filepath.Abs(b.dir)
	if err != nil {
		return nil, err
	}
	if err := writeCertificate(dir); err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("daemon off; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log; events {} http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s; server { listen 127.0.0.1:18080; listen 127.0.0.1:18443 ssl; ssl_certificate %[1]s/nginx.crt; ssl_certificate_key %[1]s/nginx.key; return 200 hello; } }", dir)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o644); err != nil {
		return nil, err
	}
	server := exec.Command("nginx", "-c", filepath.Join(dir, "nginx.conf"))
	if err := server.Start(); err != nil {
		return nil, err
	}
	if err := waitServer(site); err != nil {
		server.Process.Kill()
		return nil, errors.Join(err, server.Wait())
	}
	return server, nil
}

// writeCertificate makes the server's key and certificate, of a usual kind.
func writeCertificate(dir string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	write := func(name, kind string, der []byte) error {
		return os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
	}
	return errors.Join(write("nginx.crt", "CERTIFICATE", cert), write("nginx.key", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)))
}

func waitServer(url string) error {
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var resp *http.Response
		if resp, err = http.Get(url); err == nil {
			return resp.Body.Close()
		}
	}
	return err
}

// recorded is the load while tcap records.
func (b *bench) recorded(l load, flags ...string) (rates, error) {
	_, stop, err := b.startNginxRecorder(flags...)
	if err != nil {
		return rates{}, err
	}
	r, err := l.twice()
	if err := errors.Join(err, stop()); err != nil {
		return rates{}, err
	}
	_, err = b.look("nginx")
	return r, err
}

func (b *bench) startNginxRecorder(flags ...string) (pid int, stop func() error, err error) {
	args := append([]string{"record", "--force", "-e", "tcp"}, flags...)
	rec := exec.Command(b.tcap, append(args, "-o", b.capture("nginx"))...)
	if stop, err = startRecorder(rec); err != nil {
		return 0, nil, err
	}
	return rec.Process.Pid, stop, nil
}

// breakdown is where the time of a recorded request goes: in the server and the
// client, in the programs that run within them, by the kernel's own measuring
// (which costs some 50 ns a run itself), and in the recorder. Unlike a rate,
// these are right on a busy machine, too, in proportion to each other. The load
// before, which is not measured, is the one that touches memory for the first time.
func (b *bench) breakdown(what string, l load, server []string, flags ...string) error {
	rec, stop, err := b.startNginxRecorder(flags...)
	if err != nil {
		return err
	}
	first, err := l.measure()
	if err != nil {
		return errors.Join(err, stop())
	}
	stats, err := enableStats()
	if err != nil {
		return errors.Join(err, stop())
	}
	defer stats.Close()
	before, errBefore := cpuTime(rec)
	servedBefore, errServed := cpuTimes(server)
	client, errRun := l.measure()
	served, errAfter := cpuTimes(server)
	time.Sleep(100 * time.Millisecond) // what is in the ring belongs to the load
	after, errCPU := cpuTime(rec)
	programs, errProgs := programStats(rec)
	if err := errors.Join(errBefore, errServed, errRun, errAfter, errCPU, errProgs, stop()); err != nil {
		return err
	}
	i, err := b.look("nginx")
	if err != nil {
		return err
	}
	n, all := client.requests, first.requests+client.requests
	b.row(l.name+", "+what, "%.1f events in the file a request, %.0f bytes", float64(i.Events)/all, float64(i.File.Bytes)/all)
	var inPrograms time.Duration
	for _, p := range programs {
		inPrograms += p.spent
	}
	recorder, rest := after-before, served-servedBefore+client.cpu-inPrograms
	b.row("  server and client", "%.0f ns of CPU time, without the programs", float64(rest)/n)
	b.row("  programs", "%.0f ns: %.3f of that", float64(inPrograms)/n, float64(inPrograms)/float64(rest))
	b.row("  recorder", "%.0f ns of CPU time: %.3f of it", float64(recorder)/n, float64(recorder)/float64(rest))
	for _, p := range programs {
		if float64(p.runs) > n/10 {
			b.row("  "+p.name, "%.0f ns in %.1f runs", float64(p.spent)/n, float64(p.runs)/n)
		}
	}
	return nil
}
