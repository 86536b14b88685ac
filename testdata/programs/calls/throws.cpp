// Functions of C++, some of which exceptions leave. Its argument is how often.
#include <cstdlib>
#include <stdexcept>

#define KEEP(x) asm volatile("" : "+r"(x) : : "memory")

namespace app {

struct Db {
	int id;

	__attribute__((noinline)) int execute(const char *sql, long n)
	{
		KEEP(sql);
		KEEP(n);
		return id + n;
	}

	__attribute__((noinline)) int execute(long n)
	{
		KEEP(n);
		return n;
	}

	template <class T> __attribute__((noinline)) T twice(T x)
	{
		KEEP(x);
		return x + x;
	}

	__attribute__((noinline)) void fail(long n)
	{
		KEEP(n);
		if (n & 1)
			throw std::runtime_error("odd");
	}
};

} // namespace app

int main(int argc, char **argv)
{
	app::Db db{7};
	long n = argc > 1 ? atol(argv[1]) : 1, sum = 0;

	for (long i = 0; i < n; i++) {
		sum += db.execute("select", i) + db.execute(i) + db.twice<int>(i) + db.twice<long>(i);
		try {
			db.fail(i);
		} catch (const std::exception &) {
			sum++;
		}
	}
	return sum < 0;
}
