// An exception that begins in a library only, passes a function and is caught.
#include <cstdlib>
#include <vector>

namespace app {

__attribute__((noinline)) int get(const std::vector<int> &v, long n) { return v.at(n) + 1; }

} // namespace app

int main(int argc, char **argv)
{
	std::vector<int> v(3);

	try {
		return app::get(v, argc > 1 ? atol(argv[1]) : 0) != 1;
	} catch (...) {
		return 0;
	}
}
