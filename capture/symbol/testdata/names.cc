// Functions whose mangled names the test reads back.
#include <cstdlib>
#include <new>

namespace app {
template <class T> struct Store {
	T *items;
	__attribute__((noinline)) void push_back(T value, int count);
	__attribute__((noinline)) Store(int n);
};
template <class T> Store<T>::Store(int n) { items = static_cast<T *>(std::malloc(n * sizeof(T))); }
template <class T> void Store<T>::push_back(T value, int count) { items[count] = value; }
namespace {
__attribute__((noinline)) int hidden(const char *s) { return s[0] + 1; }
__attribute__((always_inline)) inline int limited(int n) { return n < 10 ? n : 10; }
}
}

void *operator new(std::size_t n) { return std::malloc(n + 1); }

int main(int argc, char **argv) {
	app::Store<long> s(10);
	s.push_back(app::hidden(argv[0]), app::limited(argc));
	auto twice = [&](int n) __attribute__((noinline)) { return n * argc; };
	return twice(argc) + *new int(argc);
}
