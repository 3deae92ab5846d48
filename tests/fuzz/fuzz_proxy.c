/* The PROXY header: while it grows, the answer is "more" until it is final. */
#include "fuzz/fuzz.h"
#include "protocol/proxy.h"

static enum proxy_result parse(struct span in, struct proxy_header *out, size_t *used)
{
    char *exact = xmalloc(in.len + 1);
    memcpy(exact + 1, in.at, in.len);
    *used = 0;
    enum proxy_result result = proxy_parse(span_make(exact + 1, in.len), out, used);
    free(exact);
    return result;
}

static void check_good(struct span text, const struct proxy_header *h, size_t used)
{
    struct proxy_header again;
    size_t used_again;
    ENSURE(used > 0 && used <= text.len && used <= PROXY_HEADER_MAX);
    ENSURE(parse(span_make(text.at, used), &again, &used_again) == PROXY_OK);
    ENSURE(used_again == used && again.is_local == h->is_local);
    ENSURE(h->is_local || (h->client.family != 0 && h->server.family != 0));
    ENSURE(ip_equals(&again.client, &h->client) && again.client_port == h->client_port);
}

void fuzz_one(struct fuzz *f)
{
    struct proxy_header h;
    size_t used, first = f->text.len + 1;
    enum proxy_result result = parse(f->text, &h, &used);
    if (result == PROXY_OK)
        check_good(f->text, &h, used);
    ENSURE(result != PROXY_MORE || f->text.len < PROXY_HEADER_MAX);
    for (size_t n = 0; n <= f->text.len && n <= PROXY_HEADER_MAX && first > n; n++) {
        struct proxy_header early;
        size_t early_used;
        enum proxy_result r = parse(span_make(f->text.at, n), &early, &early_used);
        if (r == PROXY_MORE)
            continue;
        first = n;
        ENSURE(r == result);
        ENSURE(r == PROXY_BAD || n == used);
    }
}
