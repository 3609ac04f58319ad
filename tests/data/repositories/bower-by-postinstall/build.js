const fs = require('fs');

fs.mkdirSync('dist', { recursive: true });
fs.copyFileSync('bower_components/angular/angular.js', 'dist/out.js');
