/* Addresses of MAIL and RCPT: what is taken holds no control octet, and survives being quoted and
 * read again. */
#include "fuzz/fuzz.h"
#include "protocol/smtp_path.h"
#include "protocol/text.h"

/* But for <"a@b">: without its quotes a local part alone looks like an address. */
static void check_again(struct fuzz *f, const struct smtp_path *path)
{
    struct buf wire = { 0 };
    struct smtp_path again;
    if (!path->has_domain && span_find(path->address, '@') < path->address.len)
        return;
    buf_putc(&wire, '<');
    smtp_path_quote(&wire, path->address);
    buf_putc(&wire, '>');
    ENSURE(smtp_path_parse(buf_span(&wire), true, &f->memory, &again));
    ENSURE(span_equals(again.address, path->address));
    ENSURE(again.has_domain == path->has_domain && again.is_ascii == path->is_ascii);
    buf_fini(&wire);
}

static void check(struct fuzz *f, const struct smtp_path *path)
{
    struct smtp_path parts = smtp_path_of(path->address);
    ENSURE(path->address.at[path->address.len] == '\0');
    ENSURE(utf8_is_valid(path->address));
    ENSURE(path->is_ascii == text_is_ascii(path->address));
    for (size_t i = 0; i < path->address.len; i++)
        ENSURE((unsigned char)path->address.at[i] >= ' ' && path->address.at[i] != 0x7f);
    ENSURE(!path->has_domain || path->domain.len > 0);
    if (path->has_domain)
        ENSURE(span_equals(parts.local, path->local) && span_equals(parts.domain, path->domain));
    if (path->address.len > 0)
        check_again(f, path);
}

void fuzz_one(struct fuzz *f)
{
    struct smtp_path path;
    struct span args = f->text;
    struct span token = smtp_path_cut(&args);
    ENSURE(token.len + args.len <= f->text.len);
    bool is_strict = smtp_path_parse(token, true, &f->memory, &path);
    if (is_strict)
        check(f, &path);
    bool is_loose = smtp_path_parse(token, false, &f->memory, &path);
    if (is_loose)
        check(f, &path);
    ENSURE(is_loose || !is_strict);
}
