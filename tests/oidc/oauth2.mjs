// A second OAuth2 server for the end-to-end tests, and the API that asks it about tokens.
// PORT: where to listen. LIFE: seconds a token lives.
// POST /token; GET /api wants a live token with the scope `read`.
// /test/log: what came so far. /test/forget: no token that was issued is good any more. /test/refuse: nor will any be.
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import OAuth2Server from '@node-oauth/oauth2-server';

const clients = [
  { id: 'm2m', secret: 'm2m-secret' },
  // In the header both are form-encoded (RFC 6749 §2.3.1). This server, like many, does not decode them.
  { id: 'a machine', secret: 's3c/ret+' },
].map((client) => ({ ...client, grants: ['client_credentials'], scopes: ['read', 'write'] }));

let tokens = new Map();
let refusing = false;
const log = { token: [], api: [] };

const server = new OAuth2Server({
  accessTokenLifetime: Number(process.env.LIFE ?? 600),
  model: {
    getClient: (id, secret) => clients.find((client) => client.id === id && client.secret === secret),
    getUserFromClient: (client) => ({ id: client.id }),
    validateScope: (_, client, scope = []) => scope.every((one) => client.scopes.includes(one)) && scope,
    saveToken: (token, client, user) => {
      const saved = { ...token, client, user };
      tokens.set(token.accessToken, saved);
      return saved;
    },
    getAccessToken: (bearer) => !refusing && tokens.get(bearer),
    verifyScope: (token, wanted) => wanted.every((one) => token.scope.includes(one)),
  },
});

async function token(request, response, body) {
  const entry = { at: Date.now(), form: body, basic: 'authorization' in request.headers };
  log.token.push(entry);
  const form = new OAuth2Server.Request({
    method: request.method, headers: request.headers, query: {}, body: Object.fromEntries(new URLSearchParams(body)),
  });
  const answer = new OAuth2Server.Response();
  try {
    const issued = await server.token(form, answer);
    Object.assign(entry, { bearer: issued.accessToken, until: issued.accessTokenExpiresAt.getTime() });
  } catch (error) {
    entry.refused = error.name;
  }
  send(response, answer.status, answer.body, answer.headers);
}

async function api(request, response) {
  const entry = { authorization: request.headers.authorization };
  log.api.push(entry);
  const asked = new OAuth2Server.Request({ method: request.method, headers: request.headers, query: {} });
  const answer = new OAuth2Server.Response();
  try {
    const { client, scope } = await server.authenticate(asked, answer, { scope: ['read'] });
    entry.status = 200;
    send(response, 200, { client: client.id, scope }, answer.headers);
  } catch (error) {
    entry.status = error.code;
    send(response, error.code, { error: error.name }, answer.headers);
  }
}

function send(response, status, body, headers = {}) {
  response.writeHead(status, { ...headers, 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}

createServer(async (request, response) => {
  const body = await text(request);
  switch (request.url) {
    case '/token': return token(request, response, body);
    case '/api': return api(request, response);
    case '/test/forget': tokens = new Map(); break;
    case '/test/refuse': refusing = true; break;
    default:
  }
  return send(response, 200, log);
}).listen(Number(process.env.PORT), '127.0.0.1', () => console.log('ready'));
