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
)

// A mariadb is a server with a slow log of everything.
type mariadb struct {
	*server
	socket, slow string
}

// startMariaDB starts one, with more options and more environment, and gives it a table
// and users. Its log is empty.
func startMariaDB(t *testing.T, environment []string, options ...string) *mariadb {
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
	args := append(environment, "mariadbd", "--no-defaults", "--user=root", "--datadir="+data, "--socket="+m.socket,
		"--pid-file="+filepath.Join(dir, "pid"), fmt.Sprintf("--port=%d", port), "--bind-address=127.0.0.1",
		"--slow-query-log=1", "--long-query-time=0", "--log-slow-admin-statements=0", "--slow-query-log-file="+m.slow)
	m.server = start(t, port, "env", append(args, options...)...)
	var setup strings.Builder
	setup.WriteString("CREATE DATABASE t; USE t; CREATE TABLE a (id INT PRIMARY KEY, b VARBINARY(100));\n")
	for i := range sessions {
		fmt.Fprintf(&setup, "CREATE USER user%d@localhost; GRANT ALL ON t.* TO user%d@localhost;\n", i, i)
	}
	setup.WriteString("DELIMITER //\nCREATE PROCEDURE p() BEGIN SELECT 1; SELECT SLEEP(0.01); SELECT 2; END//\n")
	if _, err := m.sql(setup.String()); err != nil {
		t.Fatal(err)
	}
	m.settle()
	if err := os.Truncate(m.slow, 0); err != nil {
		t.Fatal(err)
	}
	return m
}

// sql runs statements as one client, a session of its own, and returns what it prints.
func (m *mariadb) sql(statements string, args ...string) (string, error) {
	cmd := exec.Command("mariadb", append([]string{"--no-defaults", "--no-auto-rehash", "--skip-column-names", "-S", m.socket}, args...)...)
	cmd.Stdin = strings.NewReader(statements)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("mariadb: %w\n%s", err, out)
	}
	return string(out), nil
}

// settle waits until the server has ended its sessions. A client has its last answer
// before the server writes the statement to its log and leaves it.
func (m *mariadb) settle() {
	m.t.Helper()
	if !eventually(func() bool { return m.sessions() == 0 }) {
		m.t.Fatalf("%d clients have ended, and the server keeps their sessions", m.sessions())
	}
}

// sessions counts the connections to the server's socket that it has accepted and not
// closed. Asking the server would be a session.
func (m *mariadb) sessions() (n int) {
	m.t.Helper()
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		m.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line) // number, references, protocol, flags, type, state, inode, path
		const listening = "00010000"
		if len(f) == 8 && f[7] == m.socket && f[3] != listening {
			n++
		}
	}
	return n
}

// A query is a statement, who had it executed and how long it took.
type query struct {
	text       string
	connection string // the server's number
	user       string
	database   string
	time       time.Duration
	clock      string // of time
	start, end int64  // ns on the clock of the events
	tid        uint32 // of the thread that began it
	endTid     uint32 // that answered
	parts      int
}

var (
	slowUser   = regexp.MustCompile(`^# User@Host: (\S*)\[`)
	slowThread = regexp.MustCompile(`^# Thread_id: (\d+)  Schema: (\S*) `)
	slowTime   = regexp.MustCompile(`^# Query_time: ([0-9.]+)`)
)

// slowLog reads the statements of the slow log, in their order. Each is behind its
// figures and a line SET timestamp, and goes on to the next #. What has no text is
// left out.
func (m *mariadb) slowLog() []query {
	m.t.Helper()
	b, err := os.ReadFile(m.slow)
	if err != nil {
		m.t.Fatal(err)
	}
	var list []query
	var q query
	var text []string
	put := func() {
		q.text = strings.TrimSuffix(strings.Join(text, "\n"), ";")
		if q.text != "" {
			list = append(list, q)
		}
		text = nil
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if match := slowUser.FindStringSubmatch(line); match != nil {
			put()
			q.user = match[1]
		} else if match := slowThread.FindStringSubmatch(line); match != nil {
			q.connection, q.database = match[1], match[2]
		} else if match := slowTime.FindStringSubmatch(line); match != nil {
			seconds, err := strconv.ParseFloat(match[1], 64)
			if err != nil {
				m.t.Fatalf("%q: %v", line, err)
			}
			q.time = time.Duration(seconds * 1e9)
		} else if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "SET timestamp=") && !strings.HasPrefix(line, "use ") {
			text = append(text, line)
		}
	}
	put()
	return list
}

// queries are those that the analysis tells of, the prepared ones apart.
func (r *recorder) queries(filter ...string) (executed, prepared []query) {
	r.t.Helper()
	var doc struct {
		Capture struct {
			Start int64 `json:"start_unix_ns"`
		}
		Count   int
		Queries []struct {
			Group    string
			Examples []struct {
				Text, Connection, User, Database string
				Length                           int   `json:"length_bytes"`
				Start                            int64 `json:"start_ns"`
				End                              int64 `json:"end_ns"`
				Duration                         int64 `json:"duration_ns"`
				Clock                            string
				Tid                              uint32
				EndTid                           uint32 `json:"end_tid"`
				Parts                            int
			}
		}
	}
	r.analyze(&doc, append([]string{"queries", "--examples", "1000"}, filter...)...)
	for _, g := range doc.Queries {
		for _, e := range g.Examples {
			if e.Length != len(e.Text) && e.Length < 4096 {
				r.t.Errorf("%q: %d bytes of text", e.Text, e.Length)
			}
			_, connection, _ := strings.Cut(e.Connection, ":")
			q := query{e.Text, connection, e.User, e.Database, time.Duration(e.Duration), e.Clock, e.Start, e.End, e.Tid, e.EndTid, e.Parts}
			if strings.HasPrefix(g.Group, "prepare: ") {
				prepared = append(prepared, q)
			} else {
				executed = append(executed, q)
			}
		}
	}
	if len(executed)+len(prepared) != doc.Count {
		r.t.Fatalf("%d queries, and %d with their text", doc.Count, len(executed)+len(prepared))
	}
	slices.SortFunc(executed, func(a, b query) int { return cmp.Compare(a.start, b.start) })
	return executed, prepared
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

// Sessions of users of their own run at once, each with so many pairs of statements,
// and all of it some times over.
const (
	sessions, pairs, repeats = 16, 15, 3

	statements = 1 + 2*pairs + 1 // of a session
)

// perlStatements are those of perlPrepared: the ones that connecting makes, too.
const perlStatements = 4 + 2*20 + 1

// TestMariaDB: every statement of the slow log is found with its text, its
// connection, its user and its database, and took as long as the server says, for
// sixteen sessions at once; a multi-statement; a procedure with results; binary text;
// prepared statements through libmariadb, one of them executed in bulk.
func TestMariaDB(t *testing.T) {
	kerneltest.Require(t)
	bulk := kerneltest.Build(t, apps+"bulk.c", "-lmariadb")
	m := startMariaDB(t, nil)
	r := recordNow(t, "-e", "mysql")
	told := map[string]string{}
	for range repeats {
		m.run(t, told)
		runClient(t, perlPrepared, "perl", "-", m.socket)
		runClient(t, "", bulk, m.socket)
		if _, err := m.sql("DELIMITER //\nSELECT 1; SELECT 2//\nCALL p()//\nTRUNCATE a//\n", "t"); err != nil { // the first is one packet
			t.Fatal(err)
		}
	}
	m.settle()
	r.stop()
	executed, prepared, connections := m.check(r, told)
	if len(told) != repeats*sessions || connections != repeats*(sessions+3) || len(executed) != repeats*(sessions*statements+3+perlStatements+1) ||
		len(prepared) != repeats*(3+1) {
		t.Errorf("%d connections, %d statements, %d prepared", connections, len(executed), len(prepared))
	}
}

// TestMariaDBPool: the same of a pool of threads, of which few serve the sessions in
// turns. What waits for the disk is interrupted and resumed, and is one query all the same.
func TestMariaDBPool(t *testing.T) {
	kerneltest.Require(t)
	disk := kerneltest.Build(t, apps+"slowdisk.c", "-shared", "-fPIC")
	m := startMariaDB(t, []string{"LD_PRELOAD=" + disk}, "--thread-handling=pool-of-threads", "--thread-pool-size=2", "--thread-pool-max-threads=6",
		"--innodb-flush-log-at-trx-commit=1")
	r := recordNow(t, "-e", "mysql")
	told := map[string]string{}
	m.run(t, told)
	m.settle()
	r.stop()
	executed, _, connections := m.check(r, told)
	if len(told) != sessions || connections != sessions || len(executed) != sessions*statements {
		t.Errorf("%d connections, %d statements", connections, len(executed))
	}
	interrupted, moved := 0, 0
	threads, served := map[string]map[uint32]bool{}, map[uint32]map[string]bool{}
	for _, q := range executed {
		if q.parts > 1 {
			interrupted++
		}
		if q.tid != q.endTid {
			moved++
			if q.parts < 2 {
				t.Errorf("%+v is of two threads and was not interrupted", q)
			}
		}
		if threads[q.connection] == nil {
			threads[q.connection] = map[uint32]bool{}
		}
		for _, tid := range []uint32{q.tid, q.endTid} {
			threads[q.connection][tid] = true
			if served[tid] == nil {
				served[tid] = map[string]bool{}
			}
			served[tid][q.connection] = true
		}
	}
	byConnection, byThread := 0, 0
	for _, set := range threads {
		byConnection = max(byConnection, len(set))
	}
	for _, set := range served {
		byThread = max(byThread, len(set))
	}
	t.Logf("%d threads served up to %d connections each, and a connection had up to %d of them; %d statements were interrupted, %d resumed by another thread",
		len(served), byThread, byConnection, interrupted, moved)
	if byThread < 2 || byConnection < 2 || interrupted == 0 || moved == 0 || len(served) >= sessions {
		t.Error("the pool is none, or is told of as none")
	}
}

// run has sessions work at once. Each asks the server who it is, and told is the user
// by the number of the connection.
func (m *mariadb) run(t *testing.T, told map[string]string) {
	t.Helper()
	var group sync.WaitGroup
	out := make([]string, sessions)
	errs := make([]error, sessions)
	for i := range sessions {
		group.Add(1)
		go func() {
			defer group.Done()
			var b strings.Builder
			b.WriteString("SELECT CONNECTION_ID(), SUBSTRING_INDEX(USER(), '@', 1);\n")
			for j := range pairs {
				fmt.Fprintf(&b, "INSERT INTO a VALUES (%d, 'session %d, \\\"quoted\\\" \xc3\xa9');\nSELECT b FROM a WHERE id = %d;\n", i*1000+j, i, i*1000+j)
			}
			fmt.Fprintf(&b, "SELECT SLEEP(0.0%d);\n", i+10)
			out[i], errs[i] = m.sql(b.String(), "-u", fmt.Sprintf("user%d", i), "t")
		}()
	}
	group.Wait()
	for i := range sessions {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		first, _, _ := strings.Cut(out[i], "\n")
		connection, user, _ := strings.Cut(first, "\t")
		told[connection] = user
	}
}

// check holds the queries of each connection against the slow log, one by one in
// their order.
func (m *mariadb) check(r *recorder, told map[string]string) (executed, prepared []query, connections int) {
	t := m.t
	t.Helper()
	truth := map[string][]query{}
	for _, q := range m.slowLog() {
		// A packet with two statements is two in the log.
		if list := truth[q.connection]; len(list) > 0 && list[len(list)-1].text == "SELECT 1" {
			list[len(list)-1].text += "; " + q.text
			list[len(list)-1].time += q.time
			continue
		}
		truth[q.connection] = append(truth[q.connection], q)
	}
	executed, prepared = r.queries("--pid", fmt.Sprint(m.pid())) // another server may run
	got := map[string][]query{}
	for _, q := range executed {
		got[q.connection] = append(got[q.connection], q)
	}
	var d deviations
	for connection, want := range truth {
		if len(got[connection]) != len(want) {
			t.Errorf("connection %s: %d statements, the slow log has %d", connection, len(got[connection]), len(want))
			continue
		}
		for i, w := range want {
			g := got[connection][i]
			user := told[connection]
			if user == "" {
				user = "root"
			}
			if !sameText(g.text, w.text) || g.user != w.user || g.user != user || g.database != w.database {
				t.Errorf("connection %s: %+v; the slow log has %+v", connection, g, w)
			}
			d.add(t, fmt.Sprintf("%s's statement %d, %q", w.user, i, w.text), g, w)
		}
	}
	d.tell(t)
	return executed, prepared, len(truth)
}

// deviations are how much longer queries took by tcap's own clock than the server says:
// two readings of an interval differ by what happens between one and the other, which
// is a trap, or as long as the thread does not get a CPU.
type deviations struct{ list []time.Duration }

// add compares a query with the server's own account, of which its time is made to the
// microsecond that the log has. tcap's clock, which is read outside of the server's, says
// no less.
func (d *deviations) add(t *testing.T, name string, got, want query) {
	t.Helper()
	if got.clock != "server" || (got.time-want.time).Abs() > time.Microsecond {
		t.Errorf("%s: it took %v by the clock of %s, the slow log says %v", name, got.time, got.clock, want.time)
	}
	more := time.Duration(got.end-got.start) - want.time
	if d.list = append(d.list, more); more < -time.Microsecond {
		t.Errorf("%s: it took %v less by tcap's clock than the slow log says, %v", name, -more, want.time)
	}
}

// tell logs how much the server's clock is worth.
func (d *deviations) tell(t *testing.T) {
	t.Helper()
	slices.Sort(d.list)
	if n := len(d.list); n > 0 {
		t.Logf("%d durations are the slow log's; by tcap's clock they are %v to %v longer, half of them by at most %v, 90 %% by %v, 99 %% by %v",
			n, d.list[0], d.list[n-1], d.list[n/2], d.list[n*9/10], d.list[n*99/100])
	}
}

// sameText: an execution has the text that was prepared, the log has the values in it.
func sameText(got, want string) bool {
	parts := strings.Split(got, "?")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	return got == want || len(parts) > 1 && regexp.MustCompile("^"+strings.Join(parts, "('[^']*'|[0-9.]+)")+"$").MatchString(want)
}
