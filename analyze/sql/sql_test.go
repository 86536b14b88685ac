package sql

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFingerprint(t *testing.T) {
	for text, want := range map[string]string{
		`SELECT * FROM t WHERE id=5 AND name='bob\'s' -- hi`: "select * from t where id = ? and name = ?",
		"select a, b from t where id in (1,2,3,4)":           "select a, b from t where id in (?)",
		"INSERT INTO t VALUES (1,'a'),(2,'b') , (3,'c')":     "insert into t values (?)",
		"INSERT INTO t(a,b) VALUES (?, ?), (?,?)":            "insert into t(a, b) values (?)",
		"insert into t values (1, now()), (2, now())":        "insert into t values (?, now()), (?, now())",
		"select 'a\x00', b":                                  "select ?, b",
		"select 1; select 2;":                                "select ?; select ?",
		"sElEcT  *\n from\tt1":                               "select * from t1",
		"update t set a=a+1, b = -1 where b='\x00\xff\xfe' ": "update t set a = a + ?, b = ? where b = ?",
		"select 1+1, a-1, (1)-1, -5":                         "select ? + ?, a - ?, (?) - ?, ?",
		"select x'ab', X'cd', b'01', n't', _utf8'u'":         "select ?, ?, ?, ?, ?",
		"SELECT 'unterminated":                               "select ?",
		"call p(1,'x')":                                      "call p(?)",
		"SET NAMES utf8mb4":                                  "set names utf8mb4",
		"select sleep(0.05)":                                 "select sleep(?)",
		"# comment\nselect /* in between */ 2":               "select ?",
		"/*!40101 SET NAMES utf8 */":                         "/*!40101 set names utf8 */",
		"":                                                   "",
		"-- nothing":                                         "",
		"select @@version, @a := 5":                          "select @@version, @a := ?",
		"select `a b` from `db`.`t` where a is null":         "select `a b` from `db`.`t` where a is null",
		"select (select max(a) from t where b in (1, 2))":    "select (select max(a) from t where b in (?))",
		"select * from t limit 10, 20":                       "select * from t limit ?, ?",
	} {
		if got := Fingerprint(text, false, MySQL); got != want {
			t.Errorf("%q:\n got %q\nwant %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		`select "Name" from "Users" where id = $1`:         `select "name" from "users" where id = ?`,
		"select $$a 'quoted' text$$, E'x\\'y', true, null": "select ?, ?, ?, ?",
		"select a::int from t where b->>'k' = 'v'":         "select a :: int from t where b ->> ? = ?",
	} {
		if got := Fingerprint(text, false, Standard); got != want {
			t.Errorf("%q:\n got %q\nwant %q", text, got, want)
		}
	}
}

// TestSame: queries that differ in literals only are one, and others are not.
func TestSame(t *testing.T) {
	same := [][2]string{
		{"select * from t where a = 1", "SELECT *\tFROM t WHERE a='x'"},
		{"select * from t where a in (1)", "select * from t where a in (1, 2, 3)"},
		{"insert into t values (1,2)", "insert into t values (1,2),(3,4),(5,6)"},
		{"select 1 -- a", "select 2 /* b */"},
	}
	for _, p := range same {
		if a, b := Fingerprint(p[0], false, MySQL), Fingerprint(p[1], false, MySQL); a != b {
			t.Errorf("%q and %q", a, b)
		}
	}
	other := [][2]string{
		{"select * from t where a = 1", "select * from t where b = 1"},
		{"select a from t", "select a from u"},
		{"select a+1 from t", "select a-1 from t"},
		{"select f(1)", "select g(1)"},
	}
	for _, p := range other {
		if a, b := Fingerprint(p[0], false, MySQL), Fingerprint(p[1], false, MySQL); a == b {
			t.Errorf("both are %q", a)
		}
	}
}

func TestBounded(t *testing.T) {
	for name, text := range map[string]string{
		"list":   "select * from t where a in (" + strings.Repeat("1,", 1<<20) + "1)",
		"rows":   "insert into t values " + strings.Repeat("(1,2),", 1<<16) + "(1,2)",
		"depth":  strings.Repeat("(", 1<<16),
		"names":  "select " + strings.Repeat("a, ", 1<<16) + "b",
		"string": "select '" + strings.Repeat("x", 1<<20) + "'",
	} {
		got := Fingerprint(text, false, MySQL)
		if len(got) > MaxFingerprint+len("…") {
			t.Errorf("%s: %d bytes", name, len(got))
		}
		if (name == "list" || name == "rows") && !strings.HasSuffix(got, "(?)") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if got := Fingerprint("select * from t where a in (1, 2", true, MySQL); got != "select * from t where a in (?…" {
		t.Errorf("cut: %q", got)
	}
}

func FuzzFingerprint(f *testing.F) {
	for _, s := range []string{"select 'a', 1+1 from t where x in (1,2) -- c", "insert into t values (1),(2)", "/*!1 a */ ) ((", "x'", "$a$b$a$ @v := -1", "\xff`\x00"} {
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, text string, standard bool) {
		d := MySQL
		if standard {
			d = Standard
		}
		got := Fingerprint(text, false, d)
		if len(got) > MaxFingerprint+len("…") || !utf8.ValidString(got) {
			t.Errorf("%q: %d bytes, valid %v", text, len(got), utf8.ValidString(got))
		}
		if again := Fingerprint(text, false, d); again != got {
			t.Errorf("%q: %q, then %q", text, got, again)
		}
	})
}

func BenchmarkFingerprint(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Fingerprint("SELECT c, d FROM sbtest1 WHERE id=50123 AND name='bob' ORDER BY c LIMIT 10", false, MySQL)
	}
}
