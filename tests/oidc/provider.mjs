// A real OpenID provider for the end-to-end tests, with a few switches under /test/.
// PORT: where to listen, and part of the issuer. KID: ending of the key ids. TTL: seconds a token lives.
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as wait } from 'node:timers/promises';
import { Provider } from 'oidc-provider';

const port = Number(process.env.PORT);
const issuer = `http://127.0.0.1:${port}`;
const ending = process.env.KID ?? '1';
const audience = 'https://api.example.com';
const algs = { [audience]: 'RS256', [`${audience}/ec`]: 'ES256', [`${audience}/ed`]: 'EdDSA' };

const key = (type, options, alg, kid) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }),
  use: 'sig', alg, kid: `${kid}-${ending}`,
});
const client = (client_id, token_endpoint_auth_method) => ({
  client_id, client_secret: 'm2m-secret', grant_types: ['client_credentials'],
  redirect_uris: [], response_types: [], token_endpoint_auth_method,
});

const provider = new Provider(issuer, {
  jwks: { keys: [
    key('rsa', { modulusLength: 2048 }, 'RS256', 'rs'),
    key('ec', { namedCurve: 'P-256' }, 'ES256', 'es'),
    key('ed25519', {}, 'EdDSA', 'ed'),
  ] },
  clients: [client('m2m', 'client_secret_basic'), client('m2m-post', 'client_secret_post')],
  scopes: ['read', 'write'],
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
  extraTokenClaims: () => ({ roles: ['admin', 'user'], tenant: 't1' }),
  ttl: { ClientCredentials: Number(process.env.TTL ?? 600) },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => audience,
      getResourceServerInfo: (_, resource) => ({
        scope: 'read write', audience: resource, accessTokenFormat: 'jwt',
        jwt: { sign: { alg: algs[resource] ?? 'RS256' } },
      }),
    },
  },
});

let delay = 0;
const asked = { '/jwks': 0, '/token': 0 };
const answer = provider.callback();
createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname === '/test/slow') {
    delay = Number(url.searchParams.get('ms'));
    return response.end();
  }
  if (url.pathname === '/test/asked') return response.end(JSON.stringify(asked));
  if (url.pathname in asked) asked[url.pathname] += 1;
  if (url.pathname === '/jwks' && delay > 0) await wait(delay);
  return answer(request, response);
}).listen(port, '127.0.0.1', () => console.log('ready'));
