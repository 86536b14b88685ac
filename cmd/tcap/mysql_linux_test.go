package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tcap-dev/tcap/capture/kerneltest"
	"github.com/tcap-dev/tcap/format"
)

// A mariadb is a server with a slow log of everything.
type mariadb struct {
	*server
	socket, slow string
}

func startMariaDB(t *testing.T) *mariadb {
	t.Helper()
	if _, err := exec.LookPath("mariadbd"); err != nil {
		kerneltest.Skip(t, "mariadbd is not installed: scripts/deps.sh test")
	}
	dir := publicDir(t)
	data := filepath.Join(dir, "data")
	runClient(t, "", "mariadb-install-db", "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal",
		"--skip-test-db", "--user=root")
	m := &mariadb{socket: filepath.Join(dir, "sock"), slow: filepath.Join(dir, "slow.log")}
	port := freePort(t)
	m.server = start(t, port, "mariadbd", "--no-defaults", "--user=root", "--datadir="+data, "--socket="+m.socket,
		"--pid-file="+filepath.Join(dir, "pid"), fmt.Sprintf("--port=%d", port), "--bind-address=127.0.0.1",
		"--slow-query-log=1", "--long-query-time=0", "--slow-query-log-file="+m.slow)
	return m
}

// sql runs statements as one client, a session of its own.
func (m *mariadb) sql(statements string, args ...string) error {
	cmd := exec.Command("mariadb", append([]string{"--no-defaults", "--no-auto-rehash", "-S", m.socket}, args...)...)
	cmd.Stdin = strings.NewReader(statements)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mariadb: %w\n%s", err, out)
	}
	return nil
}

// A timed is a statement and how long it took.
type timed struct {
	text string
	time time.Duration
}

var slowTime = regexp.MustCompile(`^# Query_time: ([0-9.]+)`)

// slowLog reads the statements of the slow log. Each is behind its figures and a
// line SET timestamp, and goes on to the next #.
func (m *mariadb) slowLog() []timed {
	m.t.Helper()
	b, err := os.ReadFile(m.slow)
	if err != nil {
		m.t.Fatal(err)
	}
	var list []timed
	var took time.Duration
	var text []string
	put := func() {
		if s := strings.TrimSuffix(strings.Join(text, "\n"), ";"); s != "" && !strings.HasPrefix(s, "# administrator") {
			list = append(list, timed{s, took})
		}
		text = nil
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		switch match := slowTime.FindStringSubmatch(line); {
		case match != nil:
			seconds, err := strconv.ParseFloat(match[1], 64)
			if err != nil {
				m.t.Fatalf("%q: %v", line, err)
			}
			took = time.Duration(seconds * 1e9)
		case strings.HasPrefix(line, "# User@Host"), strings.HasPrefix(line, "# Time:"):
			put()
		case strings.HasPrefix(line, "# administrator"), strings.HasPrefix(line, "#"), strings.HasPrefix(line, "SET timestamp="),
			strings.HasPrefix(line, "use "):
		default:
			text = append(text, line)
		}
	}
	put()
	return list
}

// queries are the packets of SQL in a recording, prepared ones as they were prepared.
func (r *recorder) queries() (plain, prepared []timed) {
	r.t.Helper()
	file, err := format.Open(r.file)
	if err != nil {
		r.t.Fatal(err)
	}
	defer file.Close()
	for c, err := range file.Calls(format.Filter{}) {
		if err != nil {
			r.t.Fatal(err)
		}
		command, _ := c.Uint("command")
		if c.Probe.Role != "query" || c.Outcome != format.CallReturned {
			continue
		}
		text, n, ok := c.Text("sql")
		if !ok || n != len(text) && n < 4096 {
			r.t.Errorf("command %d: %d of %d bytes of text", command, len(text), n)
		}
		switch command {
		case 3:
			plain = append(plain, timed{string(text), time.Duration(c.Duration())})
		case 22:
			prepared = append(prepared, timed{string(text), time.Duration(c.Duration())})
		}
	}
	return plain, prepared
}

// perlPrepared executes prepared statements through libmariadb.
const perlPrepared = `use DBI;
my $d = DBI->connect("dbi:MariaDB:database=t;mariadb_socket=$ARGV[0]", "root", "", {mariadb_server_prepare => 1, RaiseError => 1});
my $s = $d->prepare("SELECT b FROM a WHERE id = ?");
my $u = $d->prepare("UPDATE a SET b = ? WHERE id = ?");
for (1..20) { $s->execute($_); $s->fetchall_arrayref; $u->execute("x$_", $_); }
undef $s;
my $z = $d->prepare("SELECT SLEEP(?)");
$z->execute(0.05); $z->fetchall_arrayref;
`

// alones is how many statements run one after the other.
const alones = 200

// TestMariaDB: every statement of the slow log is found with its text, and took
// as long; sixteen sessions at once; multi-statements; binary text; prepared
// statements through libmariadb.
func TestMariaDB(t *testing.T) {
	kerneltest.Require(t)
	m := startMariaDB(t)
	if err := m.sql("CREATE DATABASE t; USE t; CREATE TABLE a (id INT PRIMARY KEY, b VARBINARY(100));"); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(m.slow, 0); err != nil {
		t.Fatal(err)
	}
	r := recordNow(t, "-e", "mysql,tcp", "-p", fmt.Sprint(m.pid()))
	const sessions, each = 16, 25
	var group sync.WaitGroup
	failed := make(chan error, sessions)
	for i := range sessions {
		group.Add(1)
		go func() {
			defer group.Done()
			var b strings.Builder
			for j := range each {
				fmt.Fprintf(&b, "INSERT INTO a VALUES (%d, 'session %d, \\\"quoted\\\" \xc3\xa9');\nSELECT b FROM a WHERE id = %d;\n", i*1000+j, i, i*1000+j)
			}
			fmt.Fprintf(&b, "SELECT SLEEP(0.0%d);\n", i+10)
			failed <- m.sql(b.String(), "t")
		}()
	}
	group.Wait()
	for range sessions {
		if err := <-failed; err != nil {
			t.Fatal(err)
		}
	}
	if err := m.sql("DELIMITER //\nSELECT 1; SELECT 2//\n", "t"); err != nil { // one packet
		t.Fatal(err)
	}
	var alone strings.Builder
	for i := range alones {
		fmt.Fprintf(&alone, "SELECT 'alone %d';\n", i)
	}
	if err := m.sql(alone.String(), "t"); err != nil {
		t.Fatal(err)
	}
	runClient(t, perlPrepared, "perl", "-", m.socket)
	r.stop()
	m.checkPlain(r)
	m.checkPrepared(r)
}

// checkPlain holds the statements of sessions against the slow log.
func (m *mariadb) checkPlain(r *recorder) {
	t := m.t
	t.Helper()
	plain, _ := r.queries()
	byText := map[string][]time.Duration{}
	for _, q := range plain {
		byText[q.text] = append(byText[q.text], q.time)
	}
	compared, alone, close := 0, 0, 0
	for _, w := range m.slowLog() {
		if !strings.HasPrefix(w.text, "INSERT INTO a") && !strings.HasPrefix(w.text, "SELECT b FROM a WHERE id = ") && !strings.HasPrefix(w.text, "SELECT SLEEP(0.0") && !strings.HasPrefix(w.text, "SELECT 'alone") {
			continue
		}
		got := byText[w.text]
		if len(got) == 0 {
			if !strings.Contains(w.text, "'") || strings.HasPrefix(w.text, "INSERT") { // else executed as prepared
				t.Errorf("the slow log has %q, the recording has not", w.text)
			}
			continue
		}
		compared++
		if got[0] < w.time-200*time.Microsecond {
			t.Errorf("%q took %v, the slow log says %v", w.text, got[0], w.time)
		}
		if strings.HasPrefix(w.text, "SELECT 'alone") {
			if alone++; within(got[0], w.time, 0.01, 200*time.Microsecond) {
				close++
			}
		}
		byText[w.text] = got[1:]
	}
	if compared != 16*51+alones {
		t.Errorf("%d statements compared, want %d", compared, 16*51+alones)
	}
	// The server takes its time before it writes the slow log, of which sessions
	// wait for each other. So these are compared one after the other, and a few
	// that are preempted in between are allowed.
	if close*100 < alone*90 {
		t.Errorf("only %d of %d durations are within 1 %% or 200 us of the slow log", close, alone)
	}
	if len(byText["SELECT 1; SELECT 2"]) != 1 {
		t.Errorf("the multi-statement was recorded %d times", len(byText["SELECT 1; SELECT 2"]))
	}
}

// checkPrepared: an execution has the text that was prepared.
func (m *mariadb) checkPrepared(r *recorder) {
	t := m.t
	t.Helper()
	var doc struct {
		UnknownText uint64 `json:"unknown_text"`
		Queries     []struct {
			Fingerprint string
			Count       uint64
			MaxNs       int64 `json:"max_ns"`
			Examples    []struct{ Text string }
		}
	}
	r.analyze(&doc, "queries")
	want := map[string]uint64{
		"select b from a where id = ?": 16*25 + 20, "update a set b = ? where id = ?": 20,
		"prepare: select b from a where id = ?": 1, "prepare: update a set b = ? where id = ?": 1,
		"prepare: select sleep(?)": 1, "select sleep(?)": 16 + 1,
	}
	for _, q := range doc.Queries {
		n, ok := want[q.Fingerprint]
		if ok && n != q.Count {
			t.Errorf("%s: %d, want %d", q.Fingerprint, q.Count, n)
		}
		delete(want, q.Fingerprint)
		if strings.HasPrefix(q.Fingerprint, "update") && (len(q.Examples) == 0 || q.Examples[0].Text != "UPDATE a SET b = ? WHERE id = ?") {
			t.Errorf("examples of the execution: %+v", q.Examples)
		}
	}
	if len(want) > 0 || doc.UnknownText != 0 {
		t.Errorf("not found: %v; %d of unknown text", want, doc.UnknownText)
	}
	list := slices.DeleteFunc(m.slowLog(), func(q timed) bool { return !strings.HasPrefix(q.text, "SELECT SLEEP") })
	slices.SortFunc(list, func(a, b timed) int { return cmp.Compare(b.time, a.time) })
	for _, q := range doc.Queries {
		if q.Fingerprint == "select sleep(?)" && !within(time.Duration(q.MaxNs), list[0].time, 0.01, 20*time.Millisecond) {
			t.Errorf("the slowest took %v, the slow log says %v", time.Duration(q.MaxNs), list[0].time)
		}
	}
}
