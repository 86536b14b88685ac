// What the demo's server and client agree on.

#define CONNECTIONS 12
#define REQUEST_SIZE 16 // bytes, "GET number" filled up with NUL
#define REPLY_SIZE 1000 // bytes

// Who ends connection number: the server closes the even ones, the client
// resets the multiples of five among the odd, and closes the others.
static inline int server_closes(int number)
{
	return number % 2 == 0;
}

static inline int client_resets(int number)
{
	return number % 2 == 1 && number % 5 == 0;
}
