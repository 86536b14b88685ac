/* Executes a prepared statement for an array of rows at once, as connectors do that
 * know MariaDB's bulk protocol (COM_STMT_BULK_EXECUTE). Takes the server's socket. */
#include <mariadb/mysql.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *why)
{
	fprintf(stderr, "%s\n", why);
	return 1;
}

int main(int argc, char **argv)
{
	const char *text = "INSERT INTO a VALUES (?, 'in bulk')";
	int ids[50];
	unsigned int rows = sizeof(ids) / sizeof(*ids);
	MYSQL_BIND bind = {.buffer_type = MYSQL_TYPE_LONG, .buffer = ids};
	MYSQL *db = mysql_init(NULL);
	MYSQL_STMT *s;

	for (unsigned int i = 0; i < rows; i++)
		ids[i] = 900000 + i;
	if (!mysql_real_connect(db, NULL, "root", "", "t", 0, argv[1], 0))
		return fail(mysql_error(db));
	s = mysql_stmt_init(db);
	if (mysql_stmt_prepare(s, text, strlen(text)) || mysql_stmt_attr_set(s, STMT_ATTR_ARRAY_SIZE, &rows) ||
	    mysql_stmt_bind_param(s, &bind) || mysql_stmt_execute(s))
		return fail(mysql_stmt_error(s));
	if (mysql_stmt_affected_rows(s) != rows)
		return fail("other rows were inserted");
	mysql_stmt_close(s);
	mysql_close(db);
	return 0;
}
