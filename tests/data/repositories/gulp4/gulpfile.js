const { dest, src } = require('gulp');

exports.build = () => src('src/**').pipe(dest('dist'));
