#include <node_api.h>
#include <node_version.h>

static napi_value init(napi_env env, napi_value exports) {
  napi_value version;
  napi_create_string_utf8(env, NODE_VERSION, NAPI_AUTO_LENGTH, &version);
  napi_set_named_property(env, exports, "compiledFor", version);
  return exports;
}

NAPI_MODULE(NODE_GYP_MODULE_NAME, init)
