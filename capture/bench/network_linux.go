package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// tcp is the rate of short connections, and what recording them costs.
func (b *bench) tcp() error {
	const n = 30_000
	var plain, recorded []float64
	var last info
	for range b.rounds {
		out, err := exec.Command(b.program("connections"), strconv.Itoa(n)).Output()
		if err != nil {
			return err
		}
		rate, err := figure(out, "connections_per_second")
		if err != nil {
			return err
		}
		plain = append(plain, rate)
		out, err = exec.Command(b.tcap, "record", "--force", "-q", "-e", "tcp", "-o", b.capture("tcp"), "--", b.program("connections"), strconv.Itoa(n)).Output()
		if err != nil {
			return err
		}
		if rate, err = figure(out, "connections_per_second"); err != nil {
			return err
		}
		recorded = append(recorded, rate)
		if last, err = b.look("tcp"); err != nil {
			return err
		}
	}
	b.row("connections unrecorded", "%.0f a second", median(plain))
	b.row("connections recorded", "%.0f a second, both ends, none lost: %.2f of unrecorded", median(recorded), median(recorded)/median(plain))
	b.row("file", "%.2f bytes an event, %.0f bytes a connection (both ends)", last.perEvent(), float64(last.File.Bytes)/n)
	return nil
}

// nginx is the throughput of a real server, recorded and not.
func (b *bench) nginx() error {
	for _, tool := range []string{"nginx", "ab"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.row("skipped", "%s is not installed", tool)
			return nil
		}
	}
	dir, err := filepath.Abs(b.dir)
	if err != nil {
		return err
	}
	conf := fmt.Sprintf("daemon off; pid %[1]s/nginx.pid; error_log %[1]s/nginx.log; events {} http { access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s; server { listen 127.0.0.1:18080; return 200 hello; } }", dir)
	if err := os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	server := exec.Command("nginx", "-c", filepath.Join(dir, "nginx.conf"))
	if err := server.Start(); err != nil {
		return err
	}
	defer func() { server.Process.Signal(syscall.SIGTERM); server.Wait() }()
	if err := waitServer("http://127.0.0.1:18080/"); err != nil {
		return err
	}
	var plain, recorded []float64
	for range b.rounds {
		rate, err := apacheBench()
		if err != nil {
			return err
		}
		plain = append(plain, rate)
		rec := exec.Command(b.tcap, "record", "--force", "-e", "tcp", "-o", b.capture("nginx"))
		stop, err := startRecorder(rec)
		if err != nil {
			return err
		}
		rate, err = apacheBench()
		if err := errors.Join(err, stop()); err != nil {
			return err
		}
		recorded = append(recorded, rate)
		if _, err := b.look("nginx"); err != nil {
			return err
		}
	}
	b.row("nginx, a connection a request", "%.0f requests a second, recorded system-wide %.0f: %.3f", median(plain), median(recorded), median(recorded)/median(plain))
	return nil
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

// apacheBench returns requests a second, each on a connection of its own.
func apacheBench() (float64, error) {
	out, err := exec.Command("ab", "-q", "-n", "10000", "-c", "20", "http://127.0.0.1:18080/").Output()
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(out) {
		if v, ok := bytes.CutPrefix(line, []byte("Requests per second:")); ok {
			return strconv.ParseFloat(string(bytes.Fields(v)[0]), 64)
		}
	}
	return 0, fmt.Errorf("ab printed no rate: %s", out)
}

// startRecorder returns when the recorder records, which it shows by writing.
func startRecorder(rec *exec.Cmd) (stop func() error, err error) {
	stderr, err := rec.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := rec.Start(); err != nil {
		return nil, err
	}
	path := rec.Args[len(rec.Args)-1]
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if st, err := os.Stat(path); err == nil && st.Size() > 0 {
			break
		}
		if time.Now().After(deadline) {
			rec.Process.Kill()
			return nil, errors.Join(errors.New("the recorder did not begin within 20 s"), rec.Wait())
		}
	}
	go io.Copy(io.Discard, bufio.NewReader(stderr))
	return func() error {
		rec.Process.Signal(os.Interrupt)
		return rec.Wait()
	}, nil
}
