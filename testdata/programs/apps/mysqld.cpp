// What MySQL 5.7 to 8.4 look like to a probe: the names, the order of arguments
// and the layout of COM_DATA are MySQL's (sql/sql_parse.cc, include/mysql/com_data.h,
// sql/sql_prepare.cc); nothing else is. It executes what it says on stdout:
//
//	COMMAND TEXT DURATION_US
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum enum_server_command { COM_QUIT = 1, COM_QUERY = 3, COM_PING = 14, COM_STMT_PREPARE = 22, COM_STMT_EXECUTE = 23 };

class String;
class Item_param;

class THD {
      public:
	long id;
	class Prepared_statement *statement;
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

bool dispatch_command(THD *thd, const COM_DATA *data, enum_server_command command)
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

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

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
	before = now() - before;
	pthread_mutex_lock(&lock);
	printf("%d\t%s\t%ld\n", c, text, before);
	pthread_mutex_unlock(&lock);
}

static void *session(void *arg)
{
	Prepared_statement statement = {(long)(intptr_t)arg};
	THD thd = {(long)(intptr_t)arg, &statement};
	char text[100];

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
