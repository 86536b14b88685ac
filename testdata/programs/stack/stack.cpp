// Allocates in C++ as programs do: in the library's containers, behind virtual
// calls and closures, in threads, by throwing, and while an exception is in flight.
// "stack SIZE FUNCTION..." says which functions a block of that size is from.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define FRAME __attribute__((noinline, noclone))

static volatile int sink;

// The compiler may neither drop the pair of calls nor end in a jump.
FRAME void leaf(size_t n)
{
	void *volatile p = malloc(n);
	free(p);
	sink = sink + 1;
}

struct Shape {
	virtual ~Shape() {}
	virtual int area(int n) = 0;
};

struct Square : Shape {
	std::vector<int> v;
	FRAME int area(int n) override
	{
		for (int i = 0; i < n; i++)
			v.push_back(i);
		sink = sink + 1;
		return v.size();
	}
};

// Runs while the stack is being unwound, and throws and catches there itself.
struct Guard {
	FRAME ~Guard()
	{
		leaf(2001);
		try {
			throw std::out_of_range(std::string(60, 'g'));
		} catch (const std::exception &) {
			leaf(2002);
		}
		sink = sink + 1;
	}
};

struct Failure : std::runtime_error {
	std::map<std::string, int> facts;
	Failure(const char *what) : std::runtime_error(what) { facts[std::string(50, 'f')] = 1; }
};

FRAME void thrower(int n)
{
	Guard guard;
	if (n > 0)
		throw Failure("a message that is longer than what a string keeps in itself");
	sink = sink + 1;
}

FRAME void rethrower(int n)
{
	try {
		thrower(n);
	} catch (const Failure &e) {
		leaf(2003);
		throw;
	}
	sink = sink + 1;
}

FRAME void catcher(int n)
{
	try {
		rethrower(n);
	} catch (const std::exception &e) {
		leaf(2004);
		std::throw_with_nested(std::logic_error(std::string(70, 'n') + e.what()));
	}
	sink = sink + 1;
}

FRAME int containers(int n)
{
	std::map<std::string, std::vector<std::string>> m;
	std::set<std::unique_ptr<int>> s;
	for (int i = 0; i < n; i++) {
		m[std::string(30 + i, 'k')].emplace_back(40, 'v');
		s.insert(std::make_unique<int>(i));
	}
	std::string joined;
	for (auto &[k, v] : m)
		joined += k + v[0];
	return joined.size() + s.size();
}

FRAME int closures(int n)
{
	std::vector<int> order(n);
	std::string text(40, 'c');
	for (int i = 0; i < n; i++)
		order[i] = (i * 7) % n;
	std::function<bool(int, int)> less = [text](int a, int b) {
		std::string copy = text + "more than before";
		return sink = copy.size(), a < b;
	};
	std::stable_sort(order.begin(), order.end(), less);
	return order[0];
}

// An array whose element's constructor fails is taken down again.
struct Fragile {
	std::string s;
	Fragile() : s(33 + sink % 2, 'x') { if (++sink % 3 == 0) throw std::bad_alloc(); }
};

FRAME void arrays()
{
	sink = 0;
	try {
		std::unique_ptr<Fragile[]> a(new Fragile[5]);
	} catch (const std::bad_alloc &) {
		leaf(2005);
	}
	sink = sink + 1;
}

int main()
{
	std::unique_ptr<Shape> shape(new Square);
	sink = shape->area(9);
	sink = containers(6);
	sink = closures(11);
	try {
		catcher(1);
	} catch (const std::exception &e) {
		leaf(2006);
	}
	arrays();
	std::thread([] { leaf(2007); }).join();
	puts("stack 2001 leaf ~Guard thrower *\n"
	     "stack 2002 leaf ~Guard thrower *\n"
	     "stack 2003 leaf rethrower catcher main\n"
	     "stack 2004 leaf catcher main\n"
	     "stack 2005 leaf arrays main\n"
	     "stack 2006 leaf main");
	return 0;
}
