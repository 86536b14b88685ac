// What MySQL 5.7 to 8.4 look like to a probe: the names, the order of arguments
// and the layout of COM_DATA are MySQL's (sql/sql_parse.cc, include/mysql/com_data.h,
// sql/sql_prepare.cc), and so is how plugins get at a session's number and user
// (sql/sql_class.cc, sql/auth/service_security_context.cc); nothing else is. It executes
// what it says on stdout, with the time until its answer:
//
//	COMMAND TEXT CONNECTION USER DATABASE DURATION_US
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum enum_server_command { COM_QUIT = 1, COM_QUERY = 3, COM_PING = 14, COM_STMT_PREPARE = 22, COM_STMT_EXECUTE = 23 };

class Item_param;

class String {
      public:
	const char *m_ptr;
	size_t m_length;
};

class Security_context {
      public:
	String m_user;
};

struct LEX_CSTRING {
	const char *str;
	size_t length;
};

class THD {
      public:
	long id;
	LEX_CSTRING m_db; // it has no function
	class Prepared_statement *statement;
	char query_arena[4000];
	Security_context *m_security_ctx;
	char variables[5000];
	uint32_t m_thread_id;
	long answered;
	void send_statement_status() __attribute__((noinline));
};

union COM_DATA {
	struct {
		const char *query;
		unsigned int length;
	} com_query, com_stmt_prepare;
	struct {
		unsigned long stmt_id;
	} com_stmt_execute;
};

class Prepared_statement {
      public:
	long id;
	bool prepare(THD *thd, const char *text, size_t length, Item_param **params) __attribute__((noinline));
	bool execute_loop(THD *thd, String *expanded, bool cursor) __attribute__((noinline));
};

static volatile long sink;

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

extern "C" unsigned long thd_get_thread_id(const THD *thd) { return thd->m_thread_id; }

#ifdef MANGLED
char thd_get_security_context(THD *thd, Security_context **out)
#else
extern "C" char thd_get_security_context(THD *thd, Security_context **out)
#endif
{
	if (!out)
		return 1;
	*out = thd->m_security_ctx;
	return 0;
}

void THD::send_statement_status()
{
	answered = now();
	usleep(3000); // the client has not read
}

bool Prepared_statement::prepare(THD *thd, const char *text, size_t length, Item_param **params)
{
	for (size_t i = 0; i < length; i++)
		sink += text[i];
	return params != NULL;
}

bool Prepared_statement::execute_loop(THD *thd, String *expanded, bool cursor)
{
	usleep(2000);
	sink += thd->id + id;
	return cursor;
}

bool dispatch_command(THD *thd, const COM_DATA *data, enum_server_command command) __attribute__((noinline));

static bool execute(THD *thd, const COM_DATA *data, enum_server_command command)
{
	switch (command) {
	case COM_QUERY:
		usleep(1000 * (1 + data->com_query.length % 5));
		return false;
	case COM_STMT_PREPARE:
		return thd->statement->prepare(thd, data->com_stmt_prepare.query, data->com_stmt_prepare.length, NULL);
	case COM_STMT_EXECUTE:
		return thd->statement->execute_loop(thd, NULL, false);
	default:
		return command == COM_QUIT;
	}
}

bool dispatch_command(THD *thd, const COM_DATA *data, enum_server_command command)
{
	bool result = execute(thd, data, command);

	thd->send_statement_status();
	usleep(2000); // the slow log
	return result;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void command(THD *thd, enum_server_command c, const char *text)
{
	// Behind the text is no NUL, as in a packet.
	char packet[256];
	COM_DATA data;
	long before;

	memset(packet, '!', sizeof(packet));
	memcpy(packet, text, strlen(text));
	memset(&data, 0, sizeof(data));
	if (c == COM_STMT_EXECUTE) {
		data.com_stmt_execute.stmt_id = 7;
	} else {
		data.com_query.query = packet;
		data.com_query.length = strlen(text);
	}
	before = now();
	dispatch_command(thd, &data, c);
	pthread_mutex_lock(&lock);
	printf("%d\t%s\t%u\t%s\t%.*s\t%ld\n", c, text, thd->m_thread_id, thd->m_security_ctx->m_user.m_ptr, (int)thd->m_db.length, thd->m_db.str,
	       thd->answered - before);
	pthread_mutex_unlock(&lock);
}

static void *session(void *arg)
{
	Prepared_statement statement = {(long)(intptr_t)arg};
	char text[100], user[32];
	Security_context security = {{user, 5}};
	THD thd = {};

	snprintf(user, sizeof(user), "user%ld", statement.id);
	thd.id = statement.id;
	thd.statement = &statement;
	thd.m_security_ctx = &security;
	if (thd.id != 3) // which has chosen none
		thd.m_db = {"shop1!shop2!......shop4!" + 6 * (thd.id - 1), 5};
	thd.m_thread_id = 4000000000U + thd.id;
	for (int i = 0; i < 10; i++) {
		snprintf(text, sizeof(text), "SELECT %d FROM t%ld", i, thd.id);
		command(&thd, COM_QUERY, text);
	}
	snprintf(text, sizeof(text), "UPDATE t%ld SET a = ?", thd.id);
	command(&thd, COM_STMT_PREPARE, text);
	for (int i = 0; i < 3; i++)
		command(&thd, COM_STMT_EXECUTE, text);
	command(&thd, COM_PING, "");
	command(&thd, COM_QUIT, "");
	return NULL;
}

int main()
{
	pthread_t thread[4];

	for (intptr_t i = 0; i < 4; i++)
		pthread_create(&thread[i], NULL, session, (void *)(i + 1));
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	return 0;
}
