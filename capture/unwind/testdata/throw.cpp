// Allocations in C++: through the library, in a comparison, while an exception
// is thrown and while it is handled.
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define FRAME __attribute__((noinline, noclone))

static volatile int sink;

FRAME void *leaf(int n)
{
	void *p = malloc(n);
	sink = sink + 1;
	return p;
}

struct Guard {
	~Guard() { free(leaf(3)); sink = sink + 1; }
};

FRAME void thrower(int n)
{
	Guard guard;
	if (n > 0)
		throw std::runtime_error(std::string(100, 'x'));
	sink = sink + 1;
}

FRAME void catcher(int n)
{
	try {
		thrower(n);
	} catch (const std::exception &e) {
		free(leaf(5));
		sink = sink + 1;
	}
}

FRAME int sorted(std::vector<int> v)
{
	std::function<bool(int, int)> less = [&](int a, int b) { catcher(a + 1); return a < b; };
	std::stable_sort(v.begin(), v.end(), less);
	return v[0];
}

FRAME int growing(int n)
{
	std::vector<std::unique_ptr<std::string>> v;
	for (int i = 0; i < n; i++)
		v.push_back(std::make_unique<std::string>(40 + i, 'y'));
	return v.size();
}

int main()
{
	sink = growing(9);
	return sorted({5, 2, 8, 1, 9, 3}) != 1;
}
