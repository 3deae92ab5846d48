/* smtp_command - the handlers behind smtp_session's commands; private to the machine.
 * Each handler writes a reply, or sets state and ask for a verdict, or turns to the body.
 * Thread: as smtp_session. */
#ifndef POSTERN_SMTP_COMMAND_H
#define POSTERN_SMTP_COMMAND_H

#include "protocol/smtp_session.h"

/* Executes s->verb with s->argument. */
void smtp_command_run(struct smtp_session *s);

/* The driver said yes to s->ask. */
void smtp_command_accepted(struct smtp_session *s);

/* The driver said no to SMTP_ASK_HELO: all stays as it was (spec 1.2). */
void smtp_helo_refused(struct smtp_session *s);

void smtp_say(struct smtp_session *s, int code, const char *enhanced, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void smtp_say_reply(struct smtp_session *s, const struct smtp_reply *reply);
void smtp_close(struct smtp_session *s, enum smtp_close_reason why);

/* Ends the transaction; the driver is told to drop what belongs to it. */
void smtp_mail_reset(struct smtp_session *s);

/* Refuses the BDAT chunk that follows: its octets are skipped, then the reply is sent. */
void smtp_chunk_skip(struct smtp_session *s, const struct smtp_reply *reply);

void smtp_ask_for(struct smtp_session *s, enum smtp_ask ask);

#endif
