// Another implementation of JOSE for the end-to-end tests of what the gateway signs.
// `keys`: writes {"private": SET, "public": SET} with a new key for each algorithm, whose name is its id.
// `verify`: reads [{alg, token, keys}], writes [{header, claims} or {refused: CODE}]; a token may be in either form.
import { text } from 'node:stream/consumers';
import {
  compactVerify, createLocalJWKSet, exportJWK, flattenedVerify, generateKeyPair, generateSecret, importJWK,
} from 'jose';

const HMAC = ['HS256', 'HS384', 'HS512'];
const PAIRS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'];

async function keys() {
  const sets = { private: { keys: [] }, public: { keys: [] } };
  const add = async (set, alg, key) => set.keys.push({ ...await exportJWK(key), kid: alg, alg, use: 'sig' });
  for (const alg of HMAC) {
    const secret = await generateSecret(alg, { extractable: true });
    await add(sets.private, alg, secret);
    await add(sets.public, alg, secret);
  }
  for (const alg of PAIRS) {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
    await add(sets.private, alg, privateKey);
    await add(sets.public, alg, publicKey);
  }
  return sets;
}

// The library finds public keys by itself, secrets must be handed to it.
const finder = ({ alg, keys }) => (HMAC.includes(alg)
  ? ({ kid }) => importJWK(keys.keys.find((key) => key.kid === kid), alg)
  : createLocalJWKSet(keys));

async function verified(asked) {
  const full = asked.token.startsWith('{');
  const [verify, token] = full ? [flattenedVerify, JSON.parse(asked.token)] : [compactVerify, asked.token];
  try {
    const { protectedHeader, payload } = await verify(token, finder(asked), { algorithms: [asked.alg] });
    return { header: protectedHeader, claims: JSON.parse(new TextDecoder().decode(payload)) };
  } catch (error) {
    return { refused: error.code ?? String(error) };
  }
}

const answer = process.argv[2] === 'keys'
  ? await keys()
  : await Promise.all(JSON.parse(await text(process.stdin)).map(verified));
process.stdout.write(JSON.stringify(answer));
