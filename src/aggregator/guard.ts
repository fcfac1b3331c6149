// Who may read the metrics, and how often: one set of rules for HTTP, WebSocket and Socket.IO.
//
//   request ─▶ headers (helmet) ─▶ small enough? ─▶ not too often? ─▶ same origin? ─▶ token? ─▶ answer
//
// Programs such as Prometheus send the token as `Authorization: Bearer TOKEN`. Browsers cannot do that for a page or a
// WebSocket, so they get a cookie when somebody enters the token at /login. The cookie holds a digest of it.

import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import helmet from 'helmet';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { AddressFilter, addressBehind, clientKey, plainAddress } from '../net/client-address.js';
import { isSameOrigin, normalOrigin } from './origin.js';
import { noRefusals, type RefusalReason } from './refusals.js';

export interface GuardOptions {
  /** Empty: everybody may read. */
  readonly token: string;
  readonly corsOrigins: readonly string[];
  readonly maxRequestsPerSecond: number;
  /** Whether the connection is encrypted: only then are browsers told to insist on encryption (HSTS). */
  readonly isSecure: boolean;
  /** Addresses and ranges of proxies whose X-Forwarded-For, -Host and -Proto are believed. */
  readonly trustedProxies: readonly string[];
}

/** Why a request is not answered. */
export interface Refusal {
  readonly status: 401 | 403 | 413 | 429 | 503;
  readonly reason: RefusalReason;
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** No request that is meant for this server is longer. */
export const maxBodyBytes = 4096;

const cookieName = 'mltcp_token';

/** The longest host name with its port (RFC 1035, 2.3.4); a longer one is not echoed. */
const maxHostLength = 262;

/** No content from other origins, no inline scripts, and no other page may embed this one. */
const contentSecurityPolicy = {
  useDefaults: false,
  directives: {
    'default-src': ["'none'"],
    'script-src': ["'self'"],
    'style-src': ["'self'"],
    'img-src': ["'self'"],
    'connect-src': ["'self'"],
    'base-uri': ["'none'"],
    'form-action': ["'self'"],
    'frame-ancestors': ["'none'"],
  },
};

export type Middleware = (request: IncomingMessage, response: ServerResponse, next: (error?: unknown) => void) => void;

export class Guard {
  /** Sets the security headers. */
  readonly headers: Middleware;
  /** Refusals so far, by reason. */
  readonly refusals = noRefusals();
  readonly #digest: Buffer | null;
  readonly #corsOrigins: ReadonlySet<string | null>;
  readonly #limiter: RateLimiterMemory;
  readonly #isSecure: boolean;
  readonly #proxies: AddressFilter | null;

  constructor({ token, corsOrigins, maxRequestsPerSecond, isSecure, trustedProxies }: GuardOptions) {
    this.#digest = token === '' ? null : digest(token);
    this.#corsOrigins = new Set(corsOrigins.map(normalOrigin));
    this.#limiter = new RateLimiterMemory({ points: maxRequestsPerSecond, duration: 1 });
    this.#isSecure = isSecure;
    this.#proxies = trustedProxies.length === 0 ? null : new AddressFilter(trustedProxies, []);
    this.headers = helmet({
      contentSecurityPolicy,
      strictTransportSecurity: isSecure,
      crossOriginEmbedderPolicy: false,
    }) as unknown as Middleware;
  }

  /** Why a request is refused before its token is checked; null when it is not. */
  async checkRequest(request: IncomingMessage): Promise<Refusal | null> {
    const { headers } = request;
    if ('transfer-encoding' in headers || Number(headers['content-length'] ?? 0) > maxBodyBytes) {
      return this.refuse('size', 413, `a request here has at most ${maxBodyBytes} bytes`);
    }
    try {
      await this.#limiter.consume(clientKey(this.#clientOf(request)));
      return null;
    } catch {
      const message =
        'too many requests of this address (http.maxRequestsPerSecond); behind a proxy, name the proxy in http.trustedProxies';
      return this.refuse('rate', 429, message, { 'retry-after': '1' });
    }
  }

  /** A browser would let a page of any origin open a WebSocket with our cookies: only origins that config names may. */
  checkOrigin(request: IncomingMessage): Refusal | null {
    const { origin } = request.headers;
    if (origin === undefined || this.#corsOrigins.has(normalOrigin(origin) ?? '')) return null;
    const host = this.#hostOf(request);
    if (isSameOrigin(origin, host)) return null;
    const message = `a page of ${short(origin)} may not look at ${short(host)}. If a proxy is in between, it must pass the header Host on (nginx: proxy_set_header Host $http_host); for a page that comes from elsewhere, name its origin in http.corsOrigins`;
    return this.refuse('origin', 403, message);
  }

  checkToken(request: IncomingMessage): Refusal | null {
    if (this.#digest === null || shownBy(request).some((shown) => this.knows(shown))) return null;
    const message = 'send the token of http.token: Authorization: Bearer …';
    return this.refuse('token', 401, message, { 'www-authenticate': 'Bearer' });
  }

  /** Counts the refusal as well. */
  refuse(
    reason: RefusalReason,
    status: Refusal['status'],
    message: string,
    headers: Readonly<Record<string, string>> = {},
  ): Refusal {
    this.refusals[reason]++;
    return { status, reason, message, headers };
  }

  /** Whether this is the token, or none is needed; compares in constant time. @param shown its digest */
  knows(shown: Buffer | null): boolean {
    if (this.#digest === null) return true;
    return shown?.length === this.#digest.length && timingSafeEqual(shown, this.#digest);
  }

  /**
   * The cookie for a browser that has sent the token; null when the token is wrong. Its path is the one that the
   * browser asked for: only the browser knows which prefix a proxy has put before ours.
   */
  cookieFor(token: string, request: IncomingMessage): string | null {
    const shown = digest(token);
    if (!this.knows(shown)) return null;
    const secure = this.#isSecure || this.#forwarded(request, 'x-forwarded-proto') === 'https' ? '; Secure' : '';
    return `${cookieName}=${shown.toString('hex')}; HttpOnly; SameSite=Strict${secure}`;
  }

  #clientOf({ headers, socket }: IncomingMessage): string {
    const forwardedFor = String(headers['x-forwarded-for'] ?? '');
    return addressBehind(socket.remoteAddress ?? '', forwardedFor, (address) => this.#isProxy(address));
  }

  /** The origin that the browser asked for. */
  #hostOf(request: IncomingMessage): string {
    return this.#forwarded(request, 'x-forwarded-host') ?? request.headers.host ?? '';
  }

  /** The value that the first proxy saw; null unless the proxy that asks us is trusted. */
  #forwarded({ headers, socket }: IncomingMessage, header: string): string | null {
    if (!this.#isProxy(plainAddress(socket.remoteAddress ?? ''))) return null;
    return (
      String(headers[header] ?? '')
        .split(',', 1)[0]
        ?.trim() || null
    );
  }

  #isProxy(address: string): boolean {
    return this.#proxies !== null && isIP(address) !== 0 && this.#proxies.admits(address);
  }
}

export function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

function short(host: string): string {
  return host.length <= maxHostLength ? host : `${host.slice(0, maxHostLength)}…`;
}

/** Digests of the tokens in a request: with servers under / and /ml/, a browser sends the cookies of both. */
function shownBy({ headers }: IncomingMessage): readonly Buffer[] {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
  if (bearer !== undefined) return [digest(bearer)];
  const cookies = (headers.cookie ?? '').matchAll(new RegExp(`(?<=^|; *)${cookieName}=([0-9a-f]{64})(?=;|$)`, 'g'));
  return [...cookies].map(([, hex]) => Buffer.from(hex as string, 'hex'));
}
