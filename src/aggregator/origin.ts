// Whether a page and the address that its request was sent to have the same origin (RFC 6454): scheme, host and port. A
// port that is not given is the scheme's default, and hosts are compared as URLs write them.

/** As browsers write it: in lower case, without the scheme's own port; null when it is none of http or https. */
export function normalOrigin(text: string): string | null {
  if (!/^https?:\/\/[^\s/?#@\\]+\/?$/i.test(text) || !URL.canParse(text)) return null;
  return new URL(text).origin;
}

/**
 * A proxy may have ended TLS in front of us: the scheme is the one of the page.
 * @param host as in the header Host: with a port or without
 */
export function isSameOrigin(origin: string, host: string): boolean {
  const page = normalOrigin(origin);
  return page !== null && page === normalOrigin(`${new URL(page).protocol}//${host}`);
}
