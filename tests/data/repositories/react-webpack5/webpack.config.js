module.exports = {
  entry: './src/index.jsx',
  module: {
    rules: [{
      test: /\.jsx$/,
      use: { loader: '@sucrase/webpack-loader', options: { transforms: ['jsx'], jsxRuntime: 'automatic', production: true } },
    }],
  },
  performance: { hints: false },
};
