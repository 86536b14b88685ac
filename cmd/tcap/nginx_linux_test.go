package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tcap-dev/tcap/capture/kerneltest"
)

const nginxConf = `
daemon off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
	access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
	uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	keepalive_timeout 1s; client_header_timeout 1s; keepalive_requests 100000;
	server {
		listen 127.0.0.1:%[2]d;
		location = /file { return 200 "hello"; }
		location /up { proxy_pass http://%[3]s; proxy_http_version 1.0; proxy_read_timeout 1s; }
	}
	server {
		listen 127.0.0.1:%[4]d;
		keepalive_timeout 0;
		location = /file { return 200 "hello"; }
	}
}
`

// An nginx is a server with its one worker.
type nginx struct {
	*server
	dir   string
	plain int // port where it keeps no connection alive
}

func startNginx(t *testing.T, upstream string) *nginx {
	t.Helper()
	dir := publicDir(t)
	port := freePort(t)
	conf := filepath.Join(dir, "nginx.conf")
	plain := freePort(t)
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, port, upstream, plain), 0o644); err != nil {
		t.Fatal(err)
	}
	return &nginx{start(t, port, "nginx", "-c", conf, "-p", dir), dir, plain}
}

// worker is the process that serves.
func (n *nginx) worker() int {
	n.t.Helper()
	pid := 0
	eventually(func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n.pid(), n.pid()))
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	if pid == 0 {
		n.t.Fatal("nginx has no worker")
	}
	return pid
}

// A client does one thing with a connection, and knows how it ends.
type client struct {
	name      string
	initiator string
	reason    string
	function  string // how it begins
	do        func(c net.Conn) error
}

// request asks for a path, and reads the whole answer.
func request(c net.Conn, path, header string) error {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, header); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// untilEnd waits for the server's close.
func untilEnd(c net.Conn) error {
	_, err := io.Copy(io.Discard, c)
	return err
}

// often is how many connections a client makes, if each takes no time.
const often = 15

func (c *client) times() int {
	if strings.HasSuffix(c.reason, "_timeout") || strings.HasSuffix(c.name, "silent") {
		return 2
	}
	return often
}

var nginxClients = []client{
	{"keep-alive that runs out", "application", "keepalive_timeout", "ngx_http_close_connection", func(c net.Conn) error {
		if err := request(c, "/file", ""); err != nil {
			return err
		}
		return untilEnd(c)
	}},
	{"Connection: close", "application", "app_close", "ngx_http_close_connection", func(c net.Conn) error {
		if err := request(c, "/file", "Connection: close\r\n"); err != nil {
			return err
		}
		return untilEnd(c)
	}},
	{"no request", "application", "idle_timeout", "ngx_http_close_connection", untilEnd},
	{"client closes first", "peer", "peer_fin", "ngx_http_close_connection", func(c net.Conn) error {
		for range 3 {
			if err := request(c, "/file", ""); err != nil {
				return err
			}
		}
		return nil
	}},
	{"client closes at once", "peer", "peer_fin", "ngx_http_close_connection", func(net.Conn) error { return nil }},
	{"client resets", "peer", "peer_reset", "", func(c net.Conn) error {
		if err := request(c, "/file", ""); err != nil {
			return err
		}
		return c.(*net.TCPConn).SetLinger(0)
	}},
	{"client shuts down", "peer", "peer_fin", "ngx_http_close_connection", func(c net.Conn) error {
		if err := request(c, "/file", ""); err != nil {
			return err
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		return untilEnd(c)
	}},
	{"no keep-alive", "application", "app_close", "ngx_http_close_connection", func(c net.Conn) error {
		if err := request(c, "/file", ""); err != nil {
			return err
		}
		return untilEnd(c)
	}},
	{"upstream that waits", "application", "app_close", "ngx_http_close_connection", throughUpstream("/up/waits")},
	{"upstream that closes", "application", "app_close", "ngx_http_close_connection", throughUpstream("/up/closes")},
	{"upstream that resets", "application", "app_close", "ngx_http_close_connection", throughUpstream("/up/resets")},
	{"upstream that is silent", "application", "app_close", "ngx_http_close_connection", throughUpstream("/up/silent")},
}

// throughUpstream asks for what comes from the upstream, whatever that does.
func throughUpstream(path string) func(net.Conn) error {
	return func(c net.Conn) error {
		if err := request(c, path, "Connection: close\r\n"); err != nil {
			return err
		}
		return untilEnd(c)
	}
}

// byPort holds what connections are, by their client's port and in order: on
// loopback a port is given again a second after its connection's end, and at once
// if that was reset.
type byPort[T any] struct {
	mu    sync.Mutex
	of    map[int][]T
	count int
}

func (b *byPort[T]) add(port net.Addr, v T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.of == nil {
		b.of = map[int][]T{}
	}
	n := port.(*net.TCPAddr).Port
	b.of[n] = append(b.of[n], v)
	b.count++
}

// take is the next one of a port, if there is one.
func (b *byPort[T]) take(port int) (v T, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.of[port]) == 0 {
		return v, false
	}
	v, b.of[port] = b.of[port][0], b.of[port][1:]
	return v, true
}

// An upstream is a server that ends its connections as the path says, and knows
// which of nginx's ports each was.
type upstream struct {
	net.Listener
	paths byPort[string]
}

// upstreamEnds are the verdicts on nginx's connections to it.
var upstreamEnds = map[string]client{
	"/up/waits":  {initiator: "application", reason: "app_close", function: "ngx_"},
	"/up/closes": {initiator: "peer", reason: "peer_fin", function: "ngx_"},
	"/up/resets": {initiator: "peer", reason: "peer_reset"},
	"/up/silent": {initiator: "application", reason: "idle_timeout", function: "ngx_"},
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{Listener: l}
	var group sync.WaitGroup
	t.Cleanup(func() { l.Close(); group.Wait() })
	group.Add(1)
	go func() {
		defer group.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Add(1)
			go func() {
				defer group.Done()
				defer c.Close()
				u.serve(c)
			}()
		}
	}()
	return u
}

func (u *upstream) serve(c net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return // its client will miss it
	}
	u.paths.add(c.RemoteAddr(), req.URL.Path)
	switch req.URL.Path {
	case "/up/waits": // nginx has all of the answer, and closes
		io.WriteString(c, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")
		untilEnd(c)
	case "/up/closes": // the end of the answer is the end of the connection
		io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nhello")
	case "/up/resets":
		c.(*net.TCPConn).SetLinger(0)
	case "/up/silent": // nginx gives up
		untilEnd(c)
	}
}

type closesDoc struct {
	Closes []closeRow
}

type closeRow struct {
	Pid         uint32
	Comm        string
	Direction   string
	Rport       int
	Lport       int
	Opened      int64 `json:"opened_ns"`
	Initiator   string
	Reason      string
	Function    *string
	AppToKernel *int64 `json:"app_to_kernel_ns"`
	Idle        *int64 `json:"idle_ns"`
}

// TestNginx: who closed, by which function and why, held against clients that
// know, for every connection, many of which are open at once and use each other's
// descriptors again.
func TestNginx(t *testing.T) {
	kerneltest.Require(t)
	up := startUpstream(t)
	n := startNginx(t, up.Addr().String())
	r := recordNow(t, "-e", "nginx,tcp", "-p", fmt.Sprint(n.pid()), "-p", fmt.Sprint(n.worker()))

	var truth byPort[*client]
	var group sync.WaitGroup
	failed := make(chan error, len(nginxClients)*often)
	for i := range nginxClients {
		group.Add(1)
		go func() {
			defer group.Done()
			cl := &nginxClients[i]
			for range cl.times() {
				addr := n.addr()
				if cl.name == "no keep-alive" {
					addr = fmt.Sprintf("127.0.0.1:%d", n.plain)
				}
				c, err := net.Dial("tcp", addr)
				if err != nil {
					failed <- err
					return
				}
				truth.add(c.LocalAddr(), cl)
				if err := cl.do(c); err != nil {
					failed <- fmt.Errorf("%s: %w", cl.name, err)
				}
				c.Close()
			}
		}()
	}
	group.Wait()
	n.kill(t, &truth)
	close(failed)
	for err := range failed {
		t.Error(err)
	}
	r.stop()
	n.check(t, r, &truth, up)
}

var killedClient = client{name: "worker killed", initiator: "kernel", reason: "process_killed"}

// kill ends the worker while connections are open.
func (n *nginx) kill(t *testing.T, truth *byPort[*client]) {
	t.Helper()
	var open []net.Conn
	for range 10 {
		c, err := net.Dial("tcp", n.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := request(c, "/file", ""); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		truth.add(c.LocalAddr(), &killedClient)
	}
	if err := syscall.Kill(n.worker(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, c := range open {
		if err := untilEnd(c); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Error(err)
		}
	}
}

func (n *nginx) check(t *testing.T, r *recorder, truth *byPort[*client], up *upstream) {
	t.Helper()
	var doc closesDoc
	r.analyze(&doc, "closes")
	slices.SortStableFunc(doc.Closes, func(a, b closeRow) int { return cmp.Compare(a.Opened, b.Opened) })
	seen, upstream := 0, 0
	for _, c := range doc.Closes {
		want, ok := n.truthOf(&c, truth, up)
		switch {
		case !ok:
			t.Errorf("a connection that no client made and no upstream saw: %+v", c)
			continue
		case c.Direction == "connect":
			upstream++
		default:
			seen++
		}
		function := ""
		if c.Function != nil {
			function = *c.Function
		}
		if c.Initiator != want.initiator || c.Reason != want.reason || !strings.HasPrefix(function, want.function) || want.function == "" && function != "" {
			t.Errorf("%s: %s, %s, %q; want %s, %s, %q", want.name, c.Initiator, c.Reason, function, want.initiator, want.reason, want.function)
		}
		if want.function != "" && (c.AppToKernel == nil || *c.AppToKernel <= 0 || *c.AppToKernel > 1e9) {
			t.Errorf("%s: delay %v", want.name, c.AppToKernel)
		}
		if want.reason == "keepalive_timeout" && (c.Idle == nil || *c.Idle < 900e6 || *c.Idle > 10e9) {
			t.Errorf("%s: idle %v", want.name, c.Idle)
		}
	}
	if seen != truth.count {
		t.Errorf("%d connections, the clients made %d", seen, truth.count)
	}
	if upstream != 3*often+2 || upstream != up.paths.count {
		t.Errorf("%d connections to the upstream, which saw %d; want %d", upstream, up.paths.count, 3*often+2)
	}
}

// truthOf is what its client or the upstream knows of a connection; rows are asked
// for in the order in which they were opened.
func (n *nginx) truthOf(c *closeRow, truth *byPort[*client], up *upstream) (*client, bool) {
	if c.Direction != "connect" {
		if c.Lport != n.port && c.Lport != n.plain {
			return nil, false
		}
		return truth.take(c.Rport)
	}
	path, ok := up.paths.take(c.Lport)
	if !ok {
		return nil, false
	}
	end, ok := upstreamEnds[path]
	end.name = "nginx to upstream, " + path
	return &end, ok
}
