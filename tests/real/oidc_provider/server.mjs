// An authorization server of oidc-provider for the tests: node server.mjs CONFIGURATION (a JSON file).
// It answers as a hospital's EHR would: opaque tokens by default, JWTs (RFC 9068) for a resource that asks for them.
import { readFileSync } from "node:fs";
import Provider from "oidc-provider";

const { port, audience, clients, jwks, patients } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const issuer = `http://127.0.0.1:${port}`;
const scope = "patient/ImagingStudy.rs system/Patient.r";

const provider = new Provider(issuer, {
  clients,
  jwks,
  scopes: scope.split(" "),
  clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"],
  enabledJWA: {
    clientAuthSigningAlgValues: ["RS384", "ES384"],
    introspectionSigningAlgValues: ["RS256"],
  },
  extraTokenClaims: (ctx, token) => ({ patient: patients[token.clientId] }),
  ttl: { ClientCredentials: 600 },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    jwtIntrospection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (ctx, resource) => ({
        scope,
        audience,
        accessTokenTTL: 600,
        accessTokenFormat: resource.endsWith("/jwt") ? "jwt" : "opaque",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});

provider.on("server_error", (ctx, error) => console.error(error));
provider.listen(port, "127.0.0.1");
