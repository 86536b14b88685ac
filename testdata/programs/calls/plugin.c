/* A library that is loaded late. */
__attribute__((noipa)) long inner(long n)
{
	asm volatile("" ::: "memory");
	return n * 3;
}

__attribute__((noipa)) long plugin(long n)
{
	return inner(n) + 1;
}
