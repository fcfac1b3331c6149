// Who may look at the metrics, and how often: one set of rules for HTTP, WebSocket and Socket.IO.
//
//   request ─▶ headers (helmet) ─▶ small enough? ─▶ not too often? ─▶ same origin? ─▶ token? ─▶ answer
//
// The token is shown as `Authorization: Bearer TOKEN`, as Prometheus does; browsers, which cannot do that for a page or a
// WebSocket, are given a cookie when somebody has typed it in at /login. The cookie holds a digest of it.

import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import helmet from 'helmet';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { noRefusals, type RefusalReason } from './refusals.js';

export interface GuardOptions {
  /** Empty: everybody may look. */
  readonly token: string;
  readonly corsOrigins: readonly string[];
  readonly maxRequestsPerSecond: number;
  /** Whether the connection is encrypted: only then browsers keep to it from then on. */
  readonly isSecure: boolean;
}

/** Why a request is not answered. */
export interface Refusal {
  readonly status: 401 | 403 | 413 | 429 | 503;
  readonly message: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Nothing that is asked for here has more to say. */
export const maxBodyBytes = 4096;

const cookieName = 'mltcp_token';

/** Nothing comes from elsewhere, nothing is written into the page, and no other page may show it. */
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
  /** Sets the headers that make a browser careful. */
  readonly headers: Middleware;
  /** What it has refused so far. */
  readonly refusals = noRefusals();
  readonly #digest: Buffer | null;
  readonly #corsOrigins: readonly string[];
  readonly #limiter: RateLimiterMemory;
  readonly #isSecure: boolean;

  constructor({ token, corsOrigins, maxRequestsPerSecond, isSecure }: GuardOptions) {
    this.#digest = token === '' ? null : digest(token);
    this.#corsOrigins = corsOrigins;
    this.#limiter = new RateLimiterMemory({ points: maxRequestsPerSecond, duration: 1 });
    this.#isSecure = isSecure;
    this.headers = helmet({
      contentSecurityPolicy,
      strictTransportSecurity: isSecure,
      crossOriginEmbedderPolicy: false,
    }) as unknown as Middleware;
  }

  /** What every request must pass, whoever sends it; null when it does. */
  async checkRequest(request: IncomingMessage): Promise<Refusal | null> {
    const { headers, socket } = request;
    if ('transfer-encoding' in headers || Number(headers['content-length'] ?? 0) > maxBodyBytes) {
      return this.refuse('size', 413, `a request here has at most ${maxBodyBytes} bytes`);
    }
    try {
      await this.#limiter.consume(socket.remoteAddress ?? '');
      return null;
    } catch {
      const message = 'too many requests of this address (http.maxRequestsPerSecond)';
      return this.refuse('rate', 429, message, { 'retry-after': '1' });
    }
  }

  /** Pages of other origins may open a WebSocket with a browser's cookies: not here, unless they are named. */
  checkOrigin({ headers }: IncomingMessage): Refusal | null {
    const { origin, host } = headers;
    if (origin === undefined || this.#corsOrigins.includes(origin)) return null;
    if (URL.canParse(origin) && new URL(origin).host === host) return null;
    return this.refuse('origin', 403, 'this origin may not look (http.corsOrigins)');
  }

  checkToken(request: IncomingMessage): Refusal | null {
    if (this.knows(shownBy(request))) return null;
    const message = 'send the token of http.token: Authorization: Bearer …';
    return this.refuse('token', 401, message, { 'www-authenticate': 'Bearer' });
  }

  /** Counts it, too. */
  refuse(
    reason: RefusalReason,
    status: Refusal['status'],
    message: string,
    headers: Readonly<Record<string, string>> = {},
  ): Refusal {
    this.refusals[reason]++;
    return { status, message, headers };
  }

  /** Whether this is the token, or none is needed; in a time that tells nothing of it. @param shown its digest */
  knows(shown: Buffer | null): boolean {
    if (this.#digest === null) return true;
    return shown?.length === this.#digest.length && timingSafeEqual(shown, this.#digest);
  }

  /** The cookie for who has typed the token in; null when it is another. */
  cookieFor(token: string): string | null {
    const shown = digest(token);
    if (!this.knows(shown)) return null;
    const secure = this.#isSecure ? '; Secure' : '';
    return `${cookieName}=${shown.toString('hex')}; Path=/; HttpOnly; SameSite=Strict${secure}`;
  }
}

export function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}

/** The digest of the token that a request shows, if it shows one. */
function shownBy({ headers }: IncomingMessage): Buffer | null {
  const bearer = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '')?.[1];
  if (bearer !== undefined) return digest(bearer);
  const cookie = new RegExp(`(?:^|; *)${cookieName}=([0-9a-f]{64})(?:;|$)`).exec(headers.cookie ?? '')?.[1];
  return cookie === undefined ? null : Buffer.from(cookie, 'hex');
}
