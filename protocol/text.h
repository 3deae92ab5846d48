/* text - the escaping functions, xtext and UTF-8: the one way for a peer's bytes into a log,
 * a reply or a header.
 * Owns:   nothing.
 * Escape: control octets, 0x7f and the C1 controls (also as UTF-8) become '?'; well-formed
 *         UTF-8 stays, other 8-bit octets become '?'. So an escaped text is one line.
 * xtext:  RFC 3461 section 4: '+' and two upper-case hex digits.
 * Thread: any. */
#ifndef POSTERN_TEXT_H
#define POSTERN_TEXT_H

#include "protocol/arena.h"
#include "protocol/buf.h"

/* Length of the well-formed UTF-8 sequence at the start of text, 0 if there is none. */
size_t utf8_sequence(struct span text);
bool utf8_is_valid(struct span text);

/* What utf8_sequence() found: no control octet, no C1 control. False for an empty one. */
bool utf8_is_printable(struct span sequence);
bool text_is_ascii(struct span text);

/* How many octets at the start are printable ASCII: they stand for themselves everywhere. */
size_t text_plain_length(struct span text);

/* Appends at most max bytes of text, escaped; a cut text ends with "...". */
void text_escape(struct buf *out, struct span text, size_t max);

/* The same as a new string in the arena. */
const char *text_escaped(struct arena *a, struct span text, size_t max);

/* Decodes xtext; false if it is malformed or decodes to a control octet or 8-bit. */
bool xtext_decode(struct span text, struct buf *out);

/* Encodes what xtext cannot hold as it is. */
void xtext_encode(struct buf *out, struct span text);

#endif
